/** A vCPU of QEMU's that sleeps in a page fault for ever is seen by its thread. QEMU boots: only with `npm run test:long`. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { cli, jsonLines } from "../../../support/cli.ts";
import { caseFolder } from "../../../support/folders.ts";
import { noVm, VM_KERNEL, VM_TEST_BOUND_MS } from "../../../support/vm.ts";

/** The driver has its 2 MiB mapped by the first load, so that the second is QEMU's own: no request to the file server. */
const scenario = {
  id: "never-read-beside-read",
  purpose: "The file server below never answers the READ of a page whose range is mapped.",
  backing: { size: "4MiB", mount: { faults: ["read at 0x100000 hang"] } },
  actors: { victim: { in: "guest-task", steps: ["load 0x1000 8", "load 0x100000 8"] } },
  witness: ["victim.load#1 is value"],
  properties: [],
};

it.skipIf(noVm !== null)(
  `waits where QEMU itself touches a page that never comes (${noVm ?? VM_KERNEL})`,
  async () => {
    const file = join(caseFolder(), "mine.json");
    writeFileSync(file, JSON.stringify(scenario));
    const asked = ["--engine", "linux", "--vmm", "qemu", "--guest-kernel", VM_KERNEL, "--proposal", "native"];
    const { stdout, stderr } = await cli(["run", file, ...asked, "--json", "-"]);
    const lines = jsonLines(stdout) as unknown as readonly { type: string; outcomes: { text: string }[] }[];
    const found = lines.find(({ type }) => type === "case");
    expect(found?.outcomes[0]?.text, stderr).toMatch(/victim\.load#2 hung.*; VMM waiting;/);
  },
  VM_TEST_BOUND_MS,
);
