/** A guest's driver maps and removes ranges while a fence or a guard follows: on real memory, without a VM. */
import { closeSync, ftruncateSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { checkedRange } from "../../../../fs-server/src/index.ts";
import { isPageThere } from "../../../../sys/src/index.ts";
import { type FenceEvent, pageState } from "../../../../vmm/src/index.ts";
import { FenceWatch, GuardWatch, GuestWindow } from "../../../src/engines/linux/window.ts";
import { within } from "../../../src/within.ts";
import { caseFolder } from "../../support/folders.ts";

const PAGE = 4096;
const RANGE = 2 * 2 ** 20;
const threat = { fromBytes: BigInt(PAGE), by: "truncate" } as const;
const closing: (() => void)[] = [];

afterEach(() => {
  for (const close of closing.splice(0)) close();
});

function opened() {
  const path = join(caseFolder(), "file");
  writeFileSync(path, Buffer.alloc(4 * PAGE, "A"));
  const fd = openSync(path, "r+");
  const window = new GuestWindow(BigInt(2 * RANGE));
  closing.push(() => {
    window.unwatch();
    window.close();
    closeSync(fd);
  });
  const map = (at: number, writable = true): void =>
    window.map(checkedRange(BigInt(at), BigInt(RANGE), window.sizeBytes, window.alignmentBytes), fd, 0n, {
      writable,
    });
  const isThere = (at: number): boolean => isPageThere(window.hva + BigInt(at), "read");
  const stateOf = (at: number): number => window.states.of(window.hva + BigInt(at));
  return { path, fd, window, map, isThere, stateOf };
}

describe("a fence", () => {
  it("follows a truncation wherever the file is mapped, also what is mapped after it", async () => {
    const { path, fd, window, map, isThere } = opened();
    map(0);
    const events: FenceEvent[] = [];
    let onEvent = (): void => {};
    window.watchBy(
      new FenceWatch(path, (event) => {
        events.push(event);
        onEvent();
      }),
    );
    expect(isThere(PAGE)).toBe(true);
    const fenced = new Promise<void>((resolve) => {
      onEvent = resolve;
    });
    ftruncateSync(fd, PAGE);
    expect(await within(fenced, 5000)).toBe(true);
    expect([isThere(0), isThere(PAGE)]).toEqual([true, false]);
    map(RANGE);
    expect(
      events.some(({ kind, hva }) => kind === "fence" && hva === window.hva + BigInt(RANGE + PAGE)),
    ).toBe(true);
  });

  it("gives a range that is mapped for reading back as it was", async () => {
    const { path, fd, window, map, isThere } = opened();
    const reading = openSync(path, "r");
    closing.push(() => closeSync(reading));
    const range = checkedRange(0n, BigInt(RANGE), window.sizeBytes, window.alignmentBytes);
    window.map(range, reading, 0n, { writable: false });
    let unfenced = (): void => {};
    const back = new Promise<void>((resolve) => {
      unfenced = resolve;
    });
    ftruncateSync(fd, PAGE);
    window.watchBy(new FenceWatch(path, ({ kind }) => kind === "unfence" && unfenced()));
    expect(isThere(PAGE)).toBe(false);
    ftruncateSync(fd, 4 * PAGE);
    expect(await within(back, 5000)).toBe(true);
    expect(isThere(PAGE)).toBe(true);
    map(RANGE);
  });
});

describe("a guard", () => {
  it("takes away what is mapped, and what the guest maps while the truncation is under way", () => {
    const { fd, window, map, isThere, stateOf } = opened();
    map(0);
    const watch = new GuardWatch(window, fd, () => {});
    window.watchBy(watch);
    expect(stateOf(3 * PAGE)).toBe(pageState.open);
    watch.recall(threat);
    expect([isThere(0), isThere(PAGE)]).toEqual([true, false]);
    expect(stateOf(PAGE)).toBe(pageState.recalled);
    map(RANGE);
    expect([isThere(RANGE), isThere(RANGE + PAGE)]).toEqual([true, false]);
    expect(stateOf(RANGE + PAGE)).toBe(pageState.recalled);
    ftruncateSync(fd, PAGE);
    watch.settle(BigInt(PAGE));
    expect([stateOf(PAGE), stateOf(RANGE + PAGE)]).toEqual([pageState.lost, pageState.lost]);
  });

  it("gives back what a truncation has left after all, in every range", () => {
    const { fd, window, map, isThere, stateOf } = opened();
    map(0);
    const watch = new GuardWatch(window, fd, () => {});
    window.watchBy(watch);
    watch.recall(threat);
    map(RANGE);
    watch.settle(BigInt(4 * PAGE));
    for (const at of [PAGE, RANGE + PAGE]) {
      expect(isThere(at)).toBe(true);
      expect(stateOf(at)).toBe(pageState.open);
    }
  });

  it("gives back what the file has again by the time that a range is there, which it had not when it was mapped", () => {
    const { fd, window, map, isThere, stateOf } = opened();
    const watch = new GuardWatch(window, fd, () => {});
    ftruncateSync(fd, 0);
    window.watchBy({
      reach: (range) => {
        const reach = watch.reach(range);
        ftruncateSync(fd, 4 * PAGE);
        return reach;
      },
      mapped: (mappings) => watch.mapped(mappings),
      close: () => watch.close(),
    });
    map(0);
    watch.settle(BigInt(4 * PAGE));
    expect([isThere(PAGE), stateOf(PAGE)]).toEqual([true, pageState.open]);
  });

  it("gives a range back although another was mapped before the guard knew that the file had grown", () => {
    const { fd, window, map, isThere, stateOf } = opened();
    map(0);
    const watch = new GuardWatch(window, fd, () => {});
    window.watchBy(watch);
    watch.recall({ ...threat, fromBytes: 0n });
    ftruncateSync(fd, 0);
    watch.settle(0n);
    ftruncateSync(fd, 4 * PAGE);
    map(RANGE);
    watch.settle(BigInt(4 * PAGE));
    for (const at of [0, RANGE]) expect([isThere(at), stateOf(at)]).toEqual([true, pageState.open]);
  });

  it("keeps a range closed that the guest asks for again for writing", () => {
    const { fd, window, map, isThere } = opened();
    map(0, false);
    const watch = new GuardWatch(window, fd, () => {});
    window.watchBy(watch);
    watch.recall(threat);
    map(0);
    expect(isThere(PAGE)).toBe(false);
  });

  it.each([
    ["while a truncation is under way", (watch: GuardWatch) => watch.recall(threat), pageState.recalled],
    ["behind the end", (_watch: GuardWatch, fd: number) => ftruncateSync(fd, PAGE), pageState.recalled],
    ["once it is cut off", (watch: GuardWatch) => watch.cutOff("the guard has ended"), pageState.recalled],
  ] as const)("never shows what is not to be touched, not even for a moment: %s", (_, begin, state) => {
    const { fd, window, map, isThere, stateOf } = opened();
    map(0);
    const watch = new GuardWatch(window, fd, () => {});
    window.watchBy(watch);
    begin(watch, fd);
    const atOnce: unknown[] = [];
    window.watchBy({
      reach: (range) => watch.reach(range),
      mapped: () => atOnce.push(isThere(RANGE + PAGE), stateOf(RANGE + PAGE)),
      close: () => {},
    });
    atOnce.length = 0;
    map(RANGE);
    expect(atOnce).toEqual([false, state]);
  });

  it("leaves nothing recalled behind for the next case", () => {
    const { fd, window, map, stateOf } = opened();
    map(0);
    const watch = new GuardWatch(window, fd, () => {});
    window.watchBy(watch);
    watch.cutOff("the guard has ended");
    expect(stateOf(0)).toBe(pageState.lost);
    window.unwatch();
    expect(stateOf(0)).toBe(pageState.open);
  });
});
