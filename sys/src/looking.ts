/** The calls of a process that looks at others and changes little: a face of its own, because `index.ts` is slow to load. */

export { growTo } from "./file.ts";
export * as files from "./files.ts";
export { declareLater, errnoName } from "./libc.ts";
export { PAGE_SIZE } from "./memory.ts";
export { mount, unmountLazily } from "./mount.ts";
export { exitNow } from "./process.ts";
