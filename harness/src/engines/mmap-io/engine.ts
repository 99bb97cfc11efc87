/**
 * The engine `mmap-io`: the second way to map. As the engine `process`, with tasks in JavaScript and the package mmap-io in
 * place of the static program: where that does not run (no x86-64, no gcc), and to hold the two against each other.
 * A processor's own accesses are out of its reach: code, a stack in the file, LOCK.
 */
import { guestActors, guestVerbs, type Proposal, type Scenario } from "../../../../language/src/index.ts";
import type { Engine, Support } from "../../engine.ts";
import { supportOf, thisMachine } from "../../machine.ts";
import { nativeAttestation, runNative, supportsNative } from "../native.ts";
import { startMappers } from "./mappers.ts";

const no = (reason: string): Support => ({ kind: "no", reason, fix: null });

/** What JavaScript cannot do of what a process can. */
function supportsTasks(scenario: Scenario): Support {
  for (const [name, actor] of guestActors(scenario)) {
    if (actor.in === "guest-task" && (actor.onSigbus ?? "killed") !== "killed")
      return no(`${name} handles SIGBUS; this engine's processes die of it`);
    for (const { verb } of actor.steps) {
      const { beyondJavaScript: reason } = guestVerbs[verb];
      if (reason !== null) return no(`${name} ${reason}`);
    }
  }
  return { kind: "yes" };
}

export const mmapIoEngine: Engine = {
  name: "mmap-io",
  describe: () =>
    "No VM, only when named: as the engine process, with tasks in JavaScript that map the file by the package mmap-io.",
  async available() {
    return supportOf(thisMachine(), ["mmap-io"]);
  },
  supports(scenario: Scenario, proposal: Proposal): Support {
    const native = supportsNative(scenario, proposal);
    return native.kind === "no" ? native : supportsTasks(scenario);
  },
  async attest() {
    return nativeAttestation("mmap-io");
  },
  async open() {},
  run: (scenario, _proposal, context) => runNative("mmap-io", startMappers, scenario, context),
  async close() {},
};
