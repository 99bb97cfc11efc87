/** A machine check that one vCPU broadcasts comes to each of the others as often as it was sent, however late they are. */
import { describe, expect, it } from "vitest";
import type { SignalledVcpu } from "../../src/arch/index.ts";
import { Broadcasts } from "../../src/runner/broadcast.ts";
import { controlWord, controlWords } from "../../src/runner/messages.ts";

const MCIP = 4n;
/** No thread has this number: pid_max is below (PID_MAX_LIMIT, 2^22), and a kick of it is ESRCH. */
const NO_THREAD = 2 ** 30;

/** A vCPU whose guest is in its handler from the signal until `done`. */
function fakeVcpu() {
  const state = { status: 0n, interruptsOn: true, taken: 0 };
  const vcpu: SignalledVcpu = {
    control4: () => 0x40n,
    getMsr: () => state.status,
    interruptsOn: () => state.interruptsOn,
    injectMachineCheck: () => {
      state.taken += 1;
      state.status = MCIP;
    },
  };
  return {
    vcpu,
    state,
    done: () => {
      state.status = 0n;
    },
  };
}

function threeVcpus() {
  const control = new Int32Array(new SharedArrayBuffer(4 * controlWords));
  for (let cpu = 0; cpu < 3; cpu++) control[controlWord.threadIds + cpu] = NO_THREAD + cpu;
  const all = [0, 1, 2].map((cpu) => ({ ...fakeVcpu(), broadcasts: new Broadcasts(control, cpu) }));
  const [first, second, third] = all;
  if (first === undefined || second === undefined || third === undefined) throw new Error("three");
  return { control, all, first, second, third };
}

describe("a broadcast", () => {
  it("comes to the others once, and not to the vCPU that sends it", () => {
    const { first, all } = threeVcpus();
    first.broadcasts.send();
    for (let entry = 0; entry < 3; entry++) {
      for (const { broadcasts, vcpu, done } of all) {
        broadcasts.take(vcpu);
        done();
      }
    }
    expect(all.map(({ state }) => state.taken)).toEqual([0, 1, 1]);
  });

  it("of two vCPUs at the same time is two machine checks for each of three", () => {
    const { first, second, all } = threeVcpus();
    for (const sender of [first, second]) {
      sender.vcpu.injectMachineCheck({ bank: 9, status: 0n, address: 0n, misc: 0n, globalStatus: 0n });
      sender.broadcasts.send();
    }
    const enterAll = (): void => {
      for (const { broadcasts, vcpu } of all) broadcasts.take(vcpu);
    };
    enterAll();
    enterAll();
    expect(all.map(({ state }) => state.taken)).toEqual([1, 1, 1]);
    for (const { done } of all) done();
    enterAll();
    expect(all.map(({ state }) => state.taken)).toEqual([2, 2, 2]);
  });

  it("that has waited for a handler waits for its return, too", () => {
    const { first, second } = threeVcpus();
    second.state.status = MCIP;
    first.broadcasts.send();
    second.broadcasts.take(second.vcpu);
    second.done();
    second.state.interruptsOn = false;
    second.broadcasts.take(second.vcpu);
    expect(second.state.taken).toBe(0);
    second.state.interruptsOn = true;
    second.broadcasts.take(second.vcpu);
    expect(second.state.taken).toBe(1);
  });

  it("goes to no vCPU without a thread", () => {
    const { control, first, second } = threeVcpus();
    control[controlWord.threadIds + 1] = 0;
    first.broadcasts.send();
    second.broadcasts.take(second.vcpu);
    expect(second.state.taken).toBe(0);
  });
});
