/** Why a file has no pre-content events, by the errno of fanotify_init(2) and fanotify_mark(2). */
export const preContentRefusals: Readonly<Record<string, string>> = {
  EPERM: "permission events need CAP_SYS_ADMIN",
  EINVAL: "this kernel has no FAN_CLASS_PRE_CONTENT with FAN_PRE_ACCESS (Linux 6.14)",
  EOPNOTSUPP: "the file system of this file has no pre-content events (ext4, xfs and btrfs have)",
  EMFILE: "no fanotify group or descriptor is left: raise RLIMIT_NOFILE or fs.fanotify.max_user_groups",
  ENOSPC: "no mark is left: raise fs.fanotify.max_user_marks",
};
