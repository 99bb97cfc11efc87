import { describe, expect, it } from "vitest";
import { Channel, channelLayout } from "../../../../vmm/src/index.ts";
import { SignalRelay } from "../../../src/engines/vm/relay.ts";

function relay() {
  const memory = new Uint8Array(channelLayout.sizeofChannel);
  const sent: string[] = [];
  const words = new DataView(memory.buffer);
  return {
    sent,
    relay: new SignalRelay(["touched", "cut"], new Channel(memory), (name, from) => {
      sent.push(`${name} from ${from}`);
    }),
    /** As the guest's tasks see it. */
    guestSees: (number: number) => words.getUint32(channelLayout.offsetofSignals + 4 * number, true) === 1,
  };
}

describe("SignalRelay", () => {
  it("passes what was raised outside to guest and VMM actors, and not back", async () => {
    const { relay: signals, sent, guestSees } = relay();
    const waited = signals.wait("cut");
    signals.raise("cut");
    await waited;
    expect([guestSees(0), guestSees(1), signals.isRaised("cut")]).toEqual([false, true, true]);
    expect(sent).toEqual([]);
  });

  it("sends what was raised inside, with its actor", async () => {
    const { relay: signals, sent, guestSees } = relay();
    signals.raiseAndSend("touched", "victim");
    await signals.wait("touched");
    expect(guestSees(0)).toBe(true);
    expect(sent).toEqual(["touched from victim"]);
  });

  it("knows signals that no guest task has a number for", () => {
    const { relay: signals, sent } = relay();
    signals.raiseAndSend("stuck", "kvm");
    expect([signals.isRaised("stuck"), signals.nameOf(0), signals.nameOf(2)]).toEqual([
      true,
      "touched",
      undefined,
    ]);
    expect(sent).toEqual(["stuck from kvm"]);
  });
});
