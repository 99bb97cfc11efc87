/** Parts of the catalogue that have a name, or are run where nothing is named. Pure. */

/** Ids of scenarios, each with the proposals under which it is meant; null: those that it is about. */
export type Part = Readonly<Record<string, readonly string[] | null>>;

/**
 * The default cases inside kernels, where neither scenarios nor proposals are named: the loop, the promise of
 * KVM_CAP_MEMORY_FAULT_INFO, and one access under every proposal that a VMM or a guest can carry out. `'*'` is everything.
 */
export const kernelHeadlines: Part = {
  "hang-without-apf": null,
  "memory-fault-cap-without-exit": null,
  "load-after-truncate": null,
};

/**
 * The default cases of a guest in QEMU's emulator: what a truncation by the host, and one by the guest, does to each kind of
 * access (docs/linux-guest.md, outcomes A to R). A boot each.
 */
export const qemuHeadlines: Part = {
  "load-after-truncate": null,
  "load-beside-touched-after-truncate": null,
  "store-after-truncate": null,
  "file-read-after-truncate": null,
  "file-write-after-truncate": null,
  "load-across-into-lost-page": null,
  "load-after-truncate-in-page": null,
  "load-beyond-end-in-page": null,
  "load-after-truncate-by-guest": null,
  "file-read-after-truncate-by-guest": null,
  "file-write-after-own-truncate": null,
  "load-after-size-never-cached": null,
  "store-after-size-never-cached": null,
  "file-read-after-size-never-cached": null,
  "load-of-kept-after-size-never-cached": null,
  "load-behind-page-after-size-never-cached": null,
  "load-after-regrow": null,
  "two-vcpus-spin": null,
  "load-from-full-tmpfs": null,
  "kernel-pin-after-truncate": null,
  "first-load-after-truncate": null,
  "first-load-after-truncate-to-page": null,
  "load-after-guarded-truncate": ["pre-content", "sealed"],
  "store-after-guarded-truncate": ["pre-content"],
};

/**
 * Scenes: the names of parts that a command line can say in place of scenarios.
 *
 * `hang-of-the-talk`: the host truncates a file that a guest has mapped with DAX. As it is today, without async page faults, and
 * with each guard in the way in which it can see the truncation: a lease of the file server's own sees what goes through it.
 */
export const scenes: Readonly<Record<string, Part>> = {
  "hang-of-the-talk": {
    "load-after-truncate": ["apf-guest", "no-hlt-exits-no-apf"],
    "load-after-guarded-truncate": ["lease-kernel", "pre-content", "notify", "sealed"],
    "load-after-guarded-truncate-by-mount": ["lease-fuse"],
  },
};
