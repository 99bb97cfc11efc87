import { describe, expect, it } from "vitest";
import { Channel, channelLayout } from "../../../../../vmm/src/index.ts";
import { LoopWatch, pendingSteps } from "../../../../src/engines/linux/qemu/loop-watch.ts";

/** RESULT_STARTED, RESULT_DONE of channel.h. */
const STARTED = 1;
const DONE = 2;

function channelWith(): { channel: Channel; set: (task: number, status: number, began: bigint) => void } {
  const bytes = new Uint8Array(channelLayout.sizeofChannel);
  const channel = new Channel(bytes);
  const load = { verb: "load", size: 8, address: 0x40001000n, value: 0n } as const;
  channel.configure(0, [
    { cpl: 3, steps: [load] },
    { cpl: 3, cpu: 1, steps: [load] },
  ]);
  const view = new DataView(bytes.buffer);
  const set = (task: number, status: number, began: bigint): void => {
    const at = channelLayout.offsetofReports + task * channelLayout.sizeofTaskReport;
    view.setUint32(at + channelLayout.offsetofReportResults, status, true);
    view.setBigUint64(
      at + channelLayout.offsetofReportResults + channelLayout.offsetofResultBegan,
      began,
      true,
    );
  };
  return { channel, set };
}

describe("LoopWatch", () => {
  function watched(faultsATick: number): {
    news: () => readonly string[];
    set: ReturnType<typeof channelWith>["set"];
    tick: () => readonly { readonly type: string; readonly cpu: number }[];
  } {
    const { channel, set } = channelWith();
    let nowMs = 0;
    let faults = 0n;
    const watch = new LoopWatch(channel, { cpus: 2, ioPatienceMs: 1e9, isIoAnswered: false }, () => nowMs);
    const tick = () => {
      nowMs += 50;
      faults += BigInt(faultsATick);
      return watch.sample([{ pf_taken: 10n }, { pf_taken: faults }]);
    };
    return { news: () => tick().map(({ type, cpu }) => `${type} ${cpu}`), set, tick };
  }

  it("proves a loop by the counter of the vCPU that takes the faults, once, and its end", () => {
    const { news, set } = watched(100);
    set(1, STARTED, 7n);
    const all = Array.from({ length: 20 }, news).flat();
    expect(all).toEqual(["looping 1"]);
    set(1, DONE, 7n);
    expect(news()).toEqual(["unstuck 1"]);
    expect(Array.from({ length: 20 }, news).flat()).toEqual([]);
  });

  it("says nothing of an access that is under way without faults, nor of faults without an access", () => {
    const idle = watched(0);
    idle.set(1, STARTED, 7n);
    expect(Array.from({ length: 20 }, idle.news).flat()).toEqual([]);
    const busy = watched(100);
    expect(Array.from({ length: 20 }, busy.news).flat()).toEqual([]);
  });

  it("has the place of the step, and no registers", () => {
    const { channel, set } = channelWith();
    set(0, STARTED, 3n);
    expect(pendingSteps(channel)).toEqual([{ task: 0, step: 0, gva: 0x40001000n, began: 3n }]);
  });
});
