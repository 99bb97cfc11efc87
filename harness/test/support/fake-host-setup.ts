/** A host setup of which a test says what it does; all else of it does nothing. */
import type { HostSetup } from "../../src/engines/host-setup.ts";

export function fakeHostSetup(parts: Partial<HostSetup>): HostSetup {
  return {
    filePath: "/nonexistent/file",
    sourceDirectory: "/nonexistent",
    fileSystem: "none",
    mountpoint: null,
    transport: null,
    fileDescriptor: -1,
    nowMs: () => performance.now(),
    begin() {},
    raise() {},
    isRaised: () => false,
    onSignal: () => () => {},
    fileSize: () => 0n,
    readFile: (_offset, lengthBytes) => new Uint8Array(lengthBytes),
    settled: async () => true,
    failure: async () => null,
    heldUp: async () => null,
    serverHeldUpMs: () => 0,
    hostSteps: () => ({}),
    endServer() {},
    trace() {},
    events: () => [],
    counts: () => ({}),
    async close() {},
    ...parts,
  };
}
