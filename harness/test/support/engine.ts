/** Engines and machines for tests of what runs them. */
import { evidenceWith } from "../../../language/test/support/evidence.ts";
import { type Engine, type Machine, stockKernels } from "../../src/engine.ts";

/** An engine that does what it is told, under the name kvm. */
export function scriptedEngine(run: Engine["run"], changes: Partial<Engine> = {}): Engine {
  return {
    name: "kvm",
    describe: () => "scripted",
    available: async () => ({ kind: "yes" }),
    supports: () => ({ kind: "yes" }),
    attest: async () => evidenceWith().attestation,
    open: async () => {},
    run,
    close: async () => {},
    ...changes,
  };
}

/** A machine on which each case does what it is told. */
export function scriptedMachine(run: Engine["run"], changes: Partial<Machine> = {}): Machine {
  return {
    name: "here",
    option: () => null,
    builtIn: stockKernels,
    isAlone: false,
    supports: () => ({ kind: "yes" }),
    attestations: async () => [],
    open: async () => ({ kind: "up" }),
    slowness: () => 1,
    recover: async () => {},
    run: ({ scenario, proposal }, context) => run(scenario, proposal, context),
    consoles: () => [],
    close: async () => {},
    ...changes,
  };
}
