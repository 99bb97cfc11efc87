/** The operating system as seen through its C library. Depends on nothing of ours; everybody may use it. */
export * from "./credentials.ts";
export * from "./descriptors.ts";
// As a namespace: `files.close` says more than `close`.
export * as files from "./files.ts";
export * from "./libc.ts";
export * from "./memory.ts";
export * from "./mounts.ts";
