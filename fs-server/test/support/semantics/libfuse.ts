/** What a libfuse mount shows differently from a folder, by case, and why: its own and fuse-native's limits. */
const NO_OPERATION = "fuse-native 2.2.6 has no such operation";
const NO_CALLER = "fuse-native 2.2.6 does not say who asks: what is made is the server's user's";
const NO_FLAGS = "fuse-native 2.2.6 passes on no flags of a create or a write, and those of an open once";
const KILLPRIV =
  "libfuse 2 has no FUSE_HANDLE_KILLPRIV_V2: the client's kernel takes the bits by its own rule, and knows no ACLs";
const NODE_A_NAME = "libfuse 2's interface of paths has a node for each name, not for each inode";
const NOT_ENFORCED = "libfuse 2 offers no FUSE_POSIX_ACL: lists are shown, and the kernel applies the umask";
const NAMES_ALONE = "fuse-native 2.2.6 fills a folder with names alone: no numbers, no types, no . and ..";

const because = (reason: string, ...cases: readonly string[]): Readonly<Record<string, string>> =>
  Object.fromEntries(cases.map((title) => [title, reason]));

export const libfuseDiffers: Readonly<Record<string, string>> = {
  ...because(
    NO_OPERATION,
    "rename flags: NOREPLACE, EXCHANGE",
    "rename WHITEOUT leaves a device 0:0",
    "an unnamed file gets a name",
    "fallocate: longer, kept size, holes, zeros",
    "fallocate takes them",
    "a punched hole takes them",
    "holes are where they were left",
  ),
  ...because(
    NO_CALLER,
    "what a user makes is the user's",
    "a set-group-id folder gives its group",
    "the sticky bit protects names",
    "trusted attributes are root's",
  ),
  ...because(
    NO_FLAGS,
    "O_APPEND taken away after the open",
    "O_APPEND taken away, large writes",
    "RWF_NOAPPEND writes where it is aimed",
    "the host's appended bytes are kept",
    "the host's large appended bytes are kept",
  ),
  ...because(
    KILLPRIV,
    "a write takes set-id bits and capabilities",
    "a large write takes them",
    "an appended write takes them",
    "truncate takes them",
    "ftruncate takes them",
    "O_TRUNC takes them",
    "copy_file_range takes them",
    "an ACL set by an owner outside the group takes set-group-id",
  ),
  ...because(
    NODE_A_NAME,
    "a hard link is the same file",
    "a link to a folder is EPERM, to a symbolic link is one more name of it",
    "blocks and sizes of a file are its own",
  ),
  ...because(
    NOT_ENFORCED,
    "an ACL lets one user in and shows in the group bits",
    "a group with --- is kept out",
    "a user's entry comes before its groups",
    "a default ACL is inherited, and the umask is left out",
  ),
  ...because(
    NAMES_ALONE,
    "entries have the number and type of their file",
    "a folder read again from its start has what came",
    "a folder is neither read nor written as a file",
  ),
  "a file's birth is known, and stays": "libfuse 2 has no FUSE_STATX",
  "times are set to the nanosecond, kept, or now":
    "fuse-native 2.2.6 passes the access time twice, in milliseconds",
  "extended attributes: sizes and refusals":
    "fuse-native 2.2.6 answers EIO for a buffer that is too small, and counts 128 bytes more for a list",
};
