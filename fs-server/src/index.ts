/** The file server's public face: what other parts may import. */
export * from "./bench/bench.ts";
export * from "./bench/rows.ts";
export type { Agreement } from "./core/init.ts";
/**
 * Telling a mount's kernel that its cache is stale: `deviceNotifier(device).notify({ kind: "inode", node, pages:
 * ALL_PAGES })` drops attributes and pages of a node, from any thread but the one that serves the device.
 */
export * from "./core/notify.ts";
export { ContiguousSink, type ReplySink, ScatteredSink } from "./core/reply.ts";
export { type MessageResult, Session, type SessionOptions } from "./core/session.ts";
export * from "./dax/mappings.ts";
export * from "./dax/recording.ts";
export * from "./dax/window.ts";
export * from "./fs/decorator.ts";
export * from "./fs/errors.ts";
export * from "./fs/faults.ts";
export * from "./fs/filesystem.ts";
export * from "./fs/names.ts";
export { ArmedFileSystem } from "./lease/armed-filesystem.ts";
export { FuseLeaseGuard, serveLeases } from "./lease/fuse-lease.ts";
export * from "./lease/guard.ts";
export { KernelLeaseGuard } from "./lease/kernel-lease.ts";
export { LeaseBook } from "./lease/lease-book.ts";
export { NotifyGuard } from "./lease/notify.ts";
export { PreContentGuard } from "./lease/pre-content.ts";
export { SealedGuard } from "./lease/sealed.ts";
export type { PassthroughOptions } from "./passthrough/options.ts";
export { PassthroughFileSystem } from "./passthrough/passthrough.ts";
export { type ServeOptions, serveOptions, type TransportName } from "./serve/options.ts";
export type { Ready } from "./serve/serve.ts";
export { deviceNotifier, mountDevice } from "./transport/devfuse/device.ts";
export { type Answer, type Call, MemoryClient } from "./transport/memory/client.ts";
