/**
 * Creates files as the caller: with its file system uid and gid and its umask, for the length of one call.
 *
 * The kernel then does what it does for a local create (set-group-id directories, default ACLs, ownership in one
 * step), which a later chown could not. Capabilities stay, because permission was already checked by the client's
 * kernel and its supplementary groups are not known here. Thread-directed: a `FileSystem` belongs to one thread.
 */
import {
  CAP_FSETID,
  effectiveCapability,
  keepCapabilitiesAcrossIdentities,
  leaveSupplementaryGroups,
  setFileSystemGroup,
  setFileSystemIdentity,
  setUmask,
} from "../../../sys/src/index.ts";
import type { Caller } from "../fs/filesystem.ts";

export class CallerIdentity {
  readonly #uid: number;
  readonly #gid: number;
  /** The process's own; the usual caller has the same, and two system calls are spared. */
  readonly #umask: number;
  /** null: not tried yet. Without root, everything is made as the server's own user. */
  #canSwitch: boolean | null;
  /** Asked for at the first need, on the thread that serves. */
  #fsetid: { readonly switch: ReturnType<typeof effectiveCapability>; readonly groupless: boolean } | null =
    null;

  constructor() {
    this.#uid = process.geteuid?.() ?? 0;
    this.#gid = process.getegid?.() ?? 0;
    this.#canSwitch = this.#uid === 0 ? null : false;
    this.#umask = setUmask(0);
    setUmask(this.#umask);
  }

  run<T>(caller: Caller, umask: number, work: () => T): T {
    const foreign = caller.uid !== this.#uid || caller.gid !== this.#gid;
    const switched = foreign && this.#maySwitch();
    if (switched) setFileSystemIdentity(caller.uid, caller.gid);
    const masked = umask !== this.#umask;
    if (masked) setUmask(umask);
    try {
      return work();
    } finally {
      if (masked) setUmask(this.#umask);
      if (switched) setFileSystemIdentity(this.#uid, this.#gid);
    }
  }

  /**
   * Runs `work` without CAP_FSETID and in the caller's group alone, so that the kernel clears set-user-id and set-group-id
   * bits as for the caller (in_group_or_capable(), fs/attr.c).
   */
  withoutFsetid<T>(caller: Caller, work: () => T): T {
    this.#fsetid ??= { switch: effectiveCapability(CAP_FSETID), groupless: leaveSupplementaryGroups() };
    const { switch: capability } = this.#fsetid;
    const foreign = caller.gid !== this.#gid && this.#uid === 0;
    if (foreign) setFileSystemGroup(caller.gid);
    capability?.drop();
    try {
      return work();
    } finally {
      capability?.restore();
      if (foreign) setFileSystemGroup(this.#gid);
    }
  }

  #maySwitch(): boolean {
    this.#canSwitch ??= keepCapabilitiesAcrossIdentities();
    return this.#canSwitch;
  }
}
