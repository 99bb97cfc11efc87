/** The clients that reach a session without a kernel: directly, and through virtqueues. */
import type { Session } from "../../src/core/session.ts";
import { MemoryClient, type MemoryClientOptions } from "../../src/transport/memory/client.ts";
import { throughVirtio } from "../transport/virtio/driver.ts";

export type Connect = (session: Session, options?: MemoryClientOptions) => MemoryClient;

export const CLIENTS: readonly (readonly [name: string, connect: Connect])[] = [
  ["in memory", (session, options) => new MemoryClient(session, options)],
  ["behind virtqueues", (session, options) => new MemoryClient(throughVirtio(session), options)],
];
