/** The operating system as seen through its C library. Depends on nothing of ours; everybody may use it. */
export * from "./entry.ts";
export * from "./file.ts";
export * from "./libc.ts";
export * from "./memory.ts";
export * from "./mount.ts";
export * from "./process.ts";
export * from "./signals.ts";
