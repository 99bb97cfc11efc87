/** Engines for tests of what runs engines. */
import { evidenceWith } from "../../../language/test/support/evidence.ts";
import type { Engine } from "../../src/engine.ts";

/** An engine that does what it is told, under the name kvm. */
export function scriptedEngine(run: Engine["run"], changes: Partial<Engine> = {}): Engine {
  return {
    name: "kvm",
    describe: () => "scripted",
    available: async () => ({ kind: "yes" }),
    supports: () => ({ kind: "yes" }),
    attest: async () => evidenceWith().attestation,
    open: async () => {},
    isAlone: false,
    slowness: () => 1,
    run,
    close: async () => {},
    ...changes,
  };
}
