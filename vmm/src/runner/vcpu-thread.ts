/** The entry of a vCPU's thread (a worker_thread): one machine's vCPU after the other, each to its end. */
import { parentPort } from "node:worker_threads";
import type { GuestSide } from "./guest-side.ts";
import { LinuxSide } from "./linux-side.ts";
import type { VcpuThreadInput } from "./messages.ts";
import { MicroSide } from "./micro-side.ts";
import { VcpuCore } from "./vcpu-core.ts";

function sideOf(core: VcpuCore, input: VcpuThreadInput): GuestSide {
  const { guest } = input;
  switch (guest.kind) {
    case "micro":
      return new MicroSide(core, input, guest.programs);
    case "linux":
      return new LinuxSide(core, input, guest);
  }
}

if (parentPort !== null) {
  const port = parentPort;
  port.on("message", (input: VcpuThreadInput) => {
    const core = new VcpuCore(input, (message) => port.postMessage(message));
    core.run(sideOf(core, input));
  });
}
