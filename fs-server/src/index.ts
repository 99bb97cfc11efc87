/** The file server's public face: what other parts may import. */

export type { OpcodeName } from "./abi/opcodes.ts";
export * from "./bench/bench.ts";
export * from "./bench/rows.ts";
export { type DriverCall, VhostDriver } from "./bench/vhost-driver.ts";
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
export * from "./dax/table.ts";
export * from "./dax/window.ts";
export * from "./fs/decorator.ts";
export * from "./fs/errors.ts";
export * from "./fs/faults.ts";
export * from "./fs/filesystem.ts";
export * from "./fs/names.ts";
export { ArmedFileSystem } from "./guard/armed-filesystem.ts";
export { FileWatch } from "./guard/file-watch.ts";
export { KernelLeaseGuard } from "./guard/kernel-lease.ts";
export { LineReader } from "./guard/lines.ts";
export { NotifyGuard } from "./guard/notify.ts";
export { PreContentGuard } from "./guard/pre-content.ts";
export { preContentRefusals } from "./guard/pre-content-refusals.ts";
export { SealedGuard } from "./guard/sealed.ts";
export { threatOf } from "./guard/threat.ts";
export * from "./guard/truncation-guard.ts";
export { FuseLeaseGuard } from "./lease/fuse-lease.ts";
export { LeaseBook } from "./lease/lease-book.ts";
export { serveLeases } from "./lease/lease-server.ts";
export type { PassthroughOptions } from "./passthrough/options.ts";
export { PassthroughFileSystem } from "./passthrough/passthrough.ts";
export { type ServeOptions, serveOptions } from "./serve/options.ts";
export type { Ready } from "./serve/serve.ts";
export { serveVhostUser, type VhostEvents, type VhostReady, type VhostServer } from "./serve/vhost.ts";
export { type VhostServeOptions, vhostServeOptions } from "./serve/vhost-options.ts";
export * from "./suites/compare.ts";
export { type Effort, lackOf, runSuite, type Suite } from "./suites/suite.ts";
export { suites } from "./suites/suites.ts";
export { deviceNotifier, mountDevice } from "./transport/devfuse/device.ts";
export { type Answer, type Call, MemoryClient } from "./transport/memory/client.ts";
export type { SharedMemory, VirtioDevice } from "./transport/virtio/device.ts";
export { GuestMemory, type GuestRegion } from "./transport/virtio/memory.ts";
export { MMIO_BYTES, type MmioDevice, VirtioMmio } from "./transport/virtio/mmio.ts";
export { VirtioFs, type VirtioFsOptions } from "./transport/virtio/virtio-fs.ts";
export { VirtioPmem, type VirtioPmemOptions } from "./transport/virtio/virtio-pmem.ts";
