/** Scenarios and proposals for tests, by what differs from the plainest one. */
import { proposals } from "../../src/presets.ts";
import type { Proposal } from "../../src/proposal.ts";
import type { Scenario } from "../../src/scenario/scenario.ts";

/** A guest task loads, the host truncates to nothing, the task loads again. */
export function scenarioWith(changes: Partial<Scenario>): Scenario {
  return {
    id: "load-after-truncate",
    purpose: "The guest loads from a page that the host has truncated away.",
    layout: "dax-window",
    backing: { kind: "host-file", size: 0x400000n, content: "pattern" },
    window: [{ fileOffset: 0n, at: 0n, length: 0x200000n }],
    actors: {
      victim: {
        in: "guest-task",
        steps: [
          { verb: "load", offset: 0x1000n, size: 8 },
          { verb: "signal", name: "touched" },
          { verb: "await", name: "cut" },
          { verb: "load", offset: 0x1000n, size: 8 },
        ],
      },
      host: {
        in: "host-process",
        through: "file",
        steps: [
          { verb: "await", name: "touched" },
          { verb: "truncate", size: 0n },
          { verb: "signal", name: "cut" },
        ],
      },
    },
    witness: [],
    properties: [],
    proposals: null,
    needs: [],
    hash: "0123456789ab",
    ...changes,
  };
}

export function proposalOf(id: string): Proposal {
  const proposal = proposals.find((one) => one.id === id);
  if (proposal === undefined) throw new Error(`no preset ${id}`);
  return proposal;
}
