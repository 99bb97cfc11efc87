/** The operating system as seen through its C library. Depends on no other part; every part may use it. */
export * from "./blocked-call.ts";
export * from "./credentials.ts";
export * from "./descriptors.ts";
export * from "./entry.ts";
export * from "./eventfd.ts";
export * from "./fanotify.ts";
export * from "./file.ts";
// As a namespace: `files.close` is clearer than `close`.
export * as files from "./files.ts";
export * from "./guarded-copy.ts";
export * from "./inotify.ts";
export * from "./io-uring.ts";
export * from "./lease.ts";
export * from "./libc.ts";
export * from "./locks.ts";
export * from "./lost-child.ts";
export * from "./memfd.ts";
export * from "./memory.ts";
export * from "./mount.ts";
export * from "./namespace.ts";
export * from "./poison.ts";
export * from "./process.ts";
export * from "./signals.ts";
export * from "./sleep-watch.ts";
export * from "./swap.ts";
export * from "./thread-look.ts";
export * from "./unix-socket.ts";
export * from "./userfault.ts";
