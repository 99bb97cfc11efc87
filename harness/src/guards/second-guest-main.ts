/**
 * The second guest of a race: entry point of the process that has it. Its one task truncates the file for ever; each time
 * it hands its results over first, and its vCPU waits outside KVM_RUN until the next truncation is asked for. That it is
 * there again says that the last one has returned.
 */
import { PassthroughFileSystem } from "../../../fs-server/src/index.ts";
import { disableCoreDumps } from "../../../sys/src/index.ts";
import { BootImageError, type Channel, monotonicMs, WINDOW_BASE } from "../../../vmm/src/index.ts";
import { send, tieToParent } from "../engines/child-side.ts";
import { failHelper } from "../engines/helper.ts";
import { GuestError } from "../engines/linux/bring-up.ts";
import type { PreparedCase } from "../engines/linux/guest.ts";
import { ATTRIBUTE_MS, mounts } from "../engines/linux/plan.ts";
import { type CutDone, RACE_FILE_BYTES } from "./race.ts";
import { BOOT_BOUND_MS, folderOf, racedGuest } from "./raced-guest.ts";
import type { FromSecondGuest, ToSecondGuest } from "./second-guest.ts";

const truncates: PreparedCase = {
  tasks: [
    {
      actor: "truncates",
      program: {
        cpl: 3,
        cpu: 0,
        onSigbus: "same-step",
        steps: [
          { verb: "file-truncate", size: 0, address: WINDOW_BASE, value: 0n },
          { verb: "again", size: 0, address: 0n, value: 0n },
        ],
      },
    },
  ],
  mappings: [{ at: 0n, fileOffset: 0n, length: BigInt(RACE_FILE_BYTES) }],
  windowBytes: RACE_FILE_BYTES,
  mount: mounts["dax-window"],
  policy: "inject-pf",
};

const say = (message: FromSecondGuest): Promise<void> => send(message);
const nowUs = (): number => monotonicMs() * 1000;

let channel: Channel | null = null;
/** Lets the task truncate. */
let go: () => void = () => {};
let askedUs: number | null = null;

/** The truncation that has returned. Throws where the guest was told anything but success or EPERM. */
function returned(callUs: number): CutDone {
  const result = channel?.result(0, 0);
  const EPERM = 1;
  const isDenied = result?.status === "errno" && result.number === EPERM;
  if (result?.status !== "done" && !isDenied) {
    throw new Error(`the second guest's ftruncate(2): ${result?.status} ${result?.number}`);
  }
  return { type: "cut", isDenied, openUs: callUs, callUs, returnUs: nowUs(), storedBefore: null };
}

/** The task is about to truncate: for the first time, or since it has. */
async function arrived(): Promise<void> {
  const next = new Promise<void>((resolve) => {
    go = resolve;
  });
  await say(askedUs === null ? { type: "ready" } : returned(askedUs));
  await next;
}

const isOver = (why: string): never => failHelper(new Error(`the second guest: ${why}`));

async function start({ setup, folder }: Extract<ToSecondGuest, { type: "start" }>): Promise<void> {
  const guest = racedGuest(setup, { cpus: 1 });
  await guest.up();
  const validity = { entryMs: ATTRIBUTE_MS, attributesMs: ATTRIBUTE_MS };
  folderOf(guest).serve(new PassthroughFileSystem(folder), { validity });
  const prepared = await guest.prepare(truncates, "file");
  channel = prepared.channel;
  prepared.start(
    {
      results: () => arrived().catch(failHelper),
      stopped: ({ reason }) => isOver(`the VM stopped: ${reason}`),
      ended: ({ why }) => isOver(`it ended: ${why.kind}`),
    },
    { ioPatienceMs: BOOT_BOUND_MS, isIoAnswered: true, isToldEarly: false },
  );
}

tieToParent();
disableCoreDumps();
process.on("message", (message: ToSecondGuest) => {
  if (message.type === "cut") {
    askedUs = nowUs();
    go();
    return;
  }
  void start(message).catch(async (error: unknown) => {
    if (!(error instanceof GuestError || error instanceof BootImageError)) return failHelper(error);
    await say({ type: "no-guest", message: error.message });
    return process.exit(0);
  });
});
