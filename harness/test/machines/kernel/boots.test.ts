/** Which boot a case runs in, and how many there are: with boots that cost nothing. vm.test.ts does it with real ones. */
import { describe, expect, it } from "vitest";
import { evidenceResult, evidenceWith } from "../../../../language/test/support/evidence.ts";
import { Boots, MAX_RESTARTS } from "../../../src/machines/kernel/boots.ts";
import { BootError, type Session } from "../../../src/machines/kernel/session.ts";

/** A boot whose cases end when they are told to. */
class FakeSession implements Session {
  readonly id: string;
  wrong: string | null = null;
  isClosed = false;
  readonly #ends: (() => void)[] = [];
  readonly #running: Promise<unknown>[] = [];

  constructor(id: string) {
    this.id = id;
  }

  attestation = () => evidenceWith().attestation;
  console = () => ({ bootId: this.id, lines: [`this is ${this.id}`] });
  flaw = () => this.wrong;
  async run() {
    const running = new Promise<void>((resolve) => this.#ends.push(resolve));
    this.#running.push(running);
    await running;
    return evidenceResult();
  }
  endCases = () => this.#ends.forEach((end) => void end());
  settled = async () => void (await Promise.all(this.#running));
  close = async () => {
    this.isClosed = true;
  };
}

/** @param failsAt Number of the boot that does not come up. */
function fakeBoots(failsAt = 0): { readonly boots: Boots; readonly sessions: FakeSession[] } {
  const sessions: FakeSession[] = [];
  let started = 0;
  const boots = new Boots(async () => {
    started += 1;
    const id = `boot-${started}`;
    if (started === failsAt) throw new BootError("it did not come up", { bootId: id, lines: ["panic"] });
    const session = new FakeSession(id);
    sessions.push(session);
    return session;
  });
  return { boots, sessions };
}

const idOf = ({ state }: Boots): string =>
  state.kind === "up" ? state.session.console().bootId : `down: ${state.why}`;

function breakLast(sessions: readonly FakeSession[], why: string): void {
  const last = sessions.at(-1);
  if (last === undefined) throw new Error("nothing was booted");
  last.wrong = why;
}

describe("Boots", () => {
  it("stays with a boot that nothing is wrong with", async () => {
    const { boots, sessions } = fakeBoots();
    await boots.boot();
    for (let i = 0; i < 10; i += 1) await boots.recover();
    expect(sessions).toHaveLength(1);
    expect(idOf(boots)).toBe("boot-1");
  });

  it("boots once in place of a broken one, however many cases ask, and keeps what all consoles said", async () => {
    const { boots, sessions } = fakeBoots();
    await boots.boot();
    breakLast(sessions, "the kernel died");
    await Promise.all([boots.recover(), boots.recover(), boots.recover()]);
    expect(sessions.map(({ isClosed }) => isClosed)).toEqual([true, false]);
    expect(idOf(boots)).toBe("boot-2");
    expect(boots.consoles()).toEqual([
      { bootId: "boot-1", lines: ["this is boot-1"] },
      { bootId: "boot-2", lines: ["this is boot-2"] },
    ]);
  });

  it("lets the other cases of a broken boot come to their end first", async () => {
    const { boots, sessions } = fakeBoots();
    await boots.boot();
    const [first] = sessions;
    const running = first?.run();
    breakLast(sessions, "the VM gave no result");
    const recovered = boots.recover();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(first?.isClosed).toBe(false);
    first?.endCases();
    expect(await running).toMatchObject({ kind: "evidence" });
    await recovered;
    expect(idOf(boots)).toBe("boot-2");
  });

  it("has had enough some time, and says after what", async () => {
    const { boots, sessions } = fakeBoots();
    await boots.boot();
    for (let i = 0; i < MAX_RESTARTS + 3; i += 1) {
      breakLast(sessions, `panic ${sessions.length}`);
      await boots.recover();
    }
    expect(sessions).toHaveLength(1 + MAX_RESTARTS);
    expect(sessions.every(({ isClosed }) => isClosed)).toBe(true);
    expect(idOf(boots)).toBe(`down: not booted again after ${MAX_RESTARTS} times; the last: panic 4`);
    expect(boots.consoles()).toHaveLength(1 + MAX_RESTARTS);
  });

  it.each([
    [1, []],
    [2, ["boot-1"]],
  ])("does not try again when boot %d does not come up", async (failsAt, before) => {
    const { boots, sessions } = fakeBoots(failsAt);
    await boots.boot();
    if (failsAt > 1) breakLast(sessions, "the kernel died");
    await boots.recover();
    await boots.recover();
    expect(sessions).toHaveLength(failsAt - 1);
    expect(idOf(boots)).toBe("down: it did not come up");
    expect(boots.consoles().map(({ bootId }) => bootId)).toEqual([...before, `boot-${failsAt}`]);
  });

  it("does not take a defect of this program for a kernel that did not come up", async () => {
    const boots = new Boots(() => Promise.reject(new TypeError("a defect")));
    await expect(boots.boot()).rejects.toThrow("a defect");
  });

  it("leaves nothing running", async () => {
    const { boots, sessions } = fakeBoots();
    await boots.boot();
    await boots.close();
    await boots.close();
    await boots.recover();
    expect(sessions.map(({ isClosed }) => isClosed)).toEqual([true]);
    expect(boots.consoles()).toHaveLength(1);
  });
});
