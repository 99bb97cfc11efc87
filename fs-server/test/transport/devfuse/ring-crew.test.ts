/** What the threads of the queues of io_uring have in shared memory. */
import { beforeEach, describe, expect, it } from "vitest";
import { threadId } from "../../../../sys/src/index.ts";
import {
  RingCrewView,
  type RingLook,
  RingSeat,
  ringCrewMemory,
  stayed,
} from "../../../src/transport/devfuse/ring-crew.ts";

const QUEUES = 2;
const QUEUE = 1;
let short = 0;
let view: RingCrewView;
let seats: readonly RingSeat[];

beforeEach(() => {
  short = 0;
  const memory = ringCrewMemory(QUEUES);
  view = new RingCrewView(memory, QUEUES);
  seats = [0, 1].map((thread) => new RingSeat(memory, QUEUE, thread, () => (short += 1)));
  for (const seat of seats) seat.begin();
});

const [first, second] = [() => seats[0] as RingSeat, () => seats[1] as RingSeat];

describe("a queue", () => {
  it("says once that it has no entry left, and again after it was seen to have one", () => {
    first().serving(1, 0);
    expect(short).toBe(0);
    second().serving(2, 0);
    expect(short).toBe(1);
    expect(view.hasEntryAgain(QUEUE)).toBe(false);
    second().served();
    second().serving(3, 0);
    expect(short).toBe(1);
    second().served();
    expect(view.hasEntryAgain(QUEUE)).toBe(true);
    second().serving(4, 0);
    expect(short).toBe(2);
  });

  it("shows what its threads are at, and those that stay at one request", () => {
    const before = view.looks(QUEUE);
    expect(before.map(({ thread, isServing, tid }) => ({ thread, isServing, tid }))).toEqual([
      { thread: 0, isServing: false, tid: threadId() },
      { thread: 1, isServing: false, tid: threadId() },
    ]);
    expect(view.looks(0)).toEqual([]);
    first().serving(1, 0);
    second().serving(2, 0);
    const serving = view.looks(QUEUE);
    expect(stayed(before, serving)).toEqual([]);
    second().served();
    second().serving(3, 0);
    expect(stayed(serving, view.looks(QUEUE)).map(({ thread }) => thread)).toEqual([0]);
  });

  it("has no thread that stays where one waits for a request, or is new", () => {
    const look = (thread: number, turn: number): RingLook => ({
      thread,
      turn,
      tid: 1,
      isServing: turn % 2 === 0,
    });
    expect(stayed([look(0, 1)], [look(0, 1)])).toEqual([]);
    expect(stayed([look(0, 2)], [look(0, 2), look(1, 2)])).toEqual([look(0, 2)]);
  });
});

describe("an interrupt", () => {
  const unique = 0x8000_0001_ffff_fff0n;
  const [low, high] = [0xffff_fff0 | 0, 0x8000_0001 | 0];

  it("reaches the thread that serves the request, in a system call or not", () => {
    second().serving(low, high);
    const signalled: number[] = [];
    expect(view.whileServing(unique, (tid) => signalled.push(tid))).toBe(true);
    expect(signalled).toEqual([threadId()]);
    expect(second().isInterrupted(0)).toBe(true);
    expect(second().isInterrupted(0)).toBe(false);
  });

  it.each([
    ["is over", () => second().served()],
    [
      "is followed by another one",
      () => {
        second().served();
        second().serving(7, 0);
      },
    ],
  ])("reaches no thread when the request %s", (_title, then) => {
    second().serving(low, high);
    then();
    expect(view.whileServing(unique, () => expect.unreachable())).toBe(false);
    second().served();
    second().serving(9, 0);
    expect(second().isInterrupted(0)).toBe(false);
  });

  it("of one request is not for the next one of the same thread", () => {
    first().serving(low, high);
    expect(view.whileServing(unique, () => undefined)).toBe(true);
    first().served();
    first().serving(5, 0);
    expect(first().isInterrupted(0)).toBe(false);
  });
});
