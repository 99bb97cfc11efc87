/**
 * Inside a kernel's VM: runs the races of a plan with a Linux guest, and sends each result to the other side. Entry point,
 * started by the VM's init as the only program.
 */
import { mkdtempSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { errorText } from "../error-text.ts";
import { openPort, sendFrame } from "../kernel/inside-port.ts";
import { supportOf, thisMachine } from "../machine.ts";
import { runDirectoryParent } from "../paths.ts";
import { RUN_DIRECTORY_PREFIX } from "../run/sweep.ts";
import { injectedTwiceText, watchExits } from "../tracing/injected-twice.ts";
import type { FromKernelRaces, KernelRacePlan } from "./kernel-race-messages.ts";
import { LinuxRaces } from "./linux-races.ts";

const port = openPort();
const say = (message: FromKernelRaces): void => sendFrame(port, message);

const [, , path = ""] = process.argv;
const { kernel, slowness, races } = JSON.parse(readFileSync(path, "utf8")) as KernelRacePlan;
const directory = mkdtempSync(join(runDirectoryParent, RUN_DIRECTORY_PREFIX));
const exits = watchExits(directory);
const running = new LinuxRaces({ kernel, slowness }, mkdtempSync(join(directory, "races-")));

async function run(options: KernelRacePlan["races"][number]): Promise<FromKernelRaces> {
  const { guard } = options;
  exits.take();
  try {
    const result = await running.run(options);
    const twice = exits.take();
    if (twice === null) return { type: "result", result };
    return { type: "no-result", guard, message: injectedTwiceText(twice, cpus().length) };
  } catch (error) {
    return { type: "no-result", guard, message: errorText(error) };
  }
}

const support = supportOf(thisMachine(), ["kvm", "linux-guest"]);
for (const options of races) {
  say(
    support.kind === "yes"
      ? await run(options)
      : { type: "no-result", guard: options.guard, message: support.reason },
  );
}
await running.close();
say({ type: "ended" });
// The machine goes with this process.
process.exit(0);
