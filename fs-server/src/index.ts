/** The file server's public face: what other parts may import. */
export * from "./dax/mappings.ts";
export * from "./dax/recording.ts";
export * from "./dax/window.ts";
export * from "./fs/errors.ts";
export * from "./fs/filesystem.ts";
export * from "./fs/names.ts";
export type { PassthroughOptions } from "./passthrough/options.ts";
export { PassthroughFileSystem } from "./passthrough/passthrough.ts";
