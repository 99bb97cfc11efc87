/** Which of several threads receives: real threads over the shared words, with no device. */
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { compiledEntry, threadId } from "../../../../sys/src/index.ts";
import { Crew, CrewView, crewMemory, MAX_THREADS } from "../../../src/transport/devfuse/crew.ts";

const crewModule = compiledEntry(import.meta.url, "../../../src/transport/devfuse/crew.ts");
/** The tests' threads count, by number, how often they have become active. */
const ORDER = MAX_THREADS;
const TOO_LONG_MS = 10_000;

/**
 * A thread beside the first: rests, and when it is needed receives until it is told to block in a request (`orders` 1), or
 * that its request is over (2): then it would sleep in read(2), and rests if it may.
 */
const THREAD = `
  const { workerData, parentPort } = require("node:worker_threads");
  const { crewUrl, memory, seen, self, cpus } = workerData;
  import(crewUrl.replace("/fs-server/test/", "/fs-server/src/")).then(({ Crew }) => {
    const words = new Int32Array(seen);
    const crew = new Crew(memory, self, { cpus, grow: () => Atomics.add(words, ${ORDER} + 1, 1) });
    parentPort.postMessage("ready");
    const isActive = () => { Atomics.add(words, self, 1); Atomics.notify(words, self); };
    crew.begin();
    isActive();
    let unique = 1000 * self;
    for (;;) {
      Atomics.wait(words, ${ORDER}, 0);
      if (Atomics.compareExchange(words, ${ORDER}, self, 0) !== self) { Atomics.wait(words, ${ORDER} + 2, 0, 1); continue; }
      unique += 2;
      crew.serving(unique, 0, "waited for");
      Atomics.wait(words, ${ORDER} + 3, 0);
      crew.served();
      Atomics.add(words, ${ORDER} + 5, 1);
    }
  });`;

let memory: SharedArrayBuffer;
let words: Int32Array;
let workers: Worker[];
let view: CrewView;

beforeEach(() => {
  memory = crewMemory();
  words = new Int32Array(new SharedArrayBuffer(4 * (MAX_THREADS + 8)));
  workers = [];
  view = new CrewView(memory);
});
afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.terminate()));
});

function first(cpus = 2): Crew {
  const crew = new Crew(memory, 0, { cpus, grow: () => undefined });
  crew.begin();
  return crew;
}

/** Starts a thread that rests. */
async function another(self: number, cpus = 2): Promise<void> {
  const workerData = { crewUrl: crewModule.href, memory, seen: words.buffer, self, cpus };
  const worker = new Worker(THREAD, { eval: true, workerData });
  workers.push(worker);
  await new Promise((done) => worker.once("message", done));
  await new Promise((done) => setTimeout(done, 20));
}

/** Whether a thread has become active so often, after a while. Meanwhile this thread sleeps. */
function hasBeenActive(self: number, times = 1, ms = 2000): boolean {
  const until = performance.now() + ms;
  while (Atomics.load(words, self) < times && performance.now() < until) {
    Atomics.wait(words, self, Atomics.load(words, self), 20);
  }
  return Atomics.load(words, self) >= times;
}

function busyFor(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

function receive(crew: Crew): void {
  crew.serving(1, 0, "waited for");
}

describe("a crew of threads", () => {
  it("rests while one of them receives, awake and asleep", async () => {
    first();
    await another(1);
    expect(hasBeenActive(1, 1, 200)).toBe(false);
  });

  it("has another one receive when the first is blocked in a request", async () => {
    const crew = first();
    await another(1);
    receive(crew);
    // The watch is awake: the next one is there before this thread sleeps.
    crew.served();
    crew.serving(2, 0, "waited for");
    expect(hasBeenActive(1)).toBe(true);
  });

  it.each(["waited for", "queued"] as const)(
    "also after the watch has gone to sleep, by a request that was %s",
    async (arrival) => {
      const crew = first();
      await another(1);
      await new Promise((done) => setTimeout(done, 150));
      crew.serving(1, 0, arrival);
      expect(hasBeenActive(1)).toBe(true);
    },
  );

  it("has another one receive beside one that works on one request for long", async () => {
    const crew = first();
    await another(1);
    receive(crew);
    busyFor(1000);
    expect(Atomics.load(words, 1)).toBe(1);
  });

  it("has a second one receive where requests are queued, and there is a CPU for it", async () => {
    const [alone, beside] = [first(1), 70];
    await another(1, 1);
    const queued = (crew: Crew): void => {
      for (let unique = 1; unique <= beside; unique += 1) {
        crew.serving(unique, 0, "queued");
        crew.served();
      }
    };
    queued(alone);
    expect(hasBeenActive(1, 1, 200)).toBe(false);
    const second = new Crew(memory, 0, { cpus: 2, grow: () => undefined });
    queued(second);
    expect(hasBeenActive(1)).toBe(true);
  });

  it("asks for one more thread while fewer than two rest", async () => {
    const crew = first();
    await another(1);
    receive(crew);
    expect(hasBeenActive(1)).toBe(true);
    expect(Atomics.load(words, ORDER + 1)).toBe(1);
  });

  it("goes on with the first one that comes back, and lets a later one rest until that one is blocked", async () => {
    await another(1);
    // None was active.
    expect(hasBeenActive(1)).toBe(true);
    const crew = new Crew(memory, 2, { cpus: 2, grow: () => undefined });
    Atomics.store(words, ORDER, 1);
    Atomics.notify(words, ORDER);
    crew.begin();
    expect(crew.rest()).toBe(false);
    Atomics.store(words, ORDER + 3, 1);
    Atomics.notify(words, ORDER + 3);
    await expect.poll(() => Atomics.load(words, ORDER + 5)).toBe(1);
    Atomics.store(words, ORDER + 3, 0);
    // The other one is told to block in a while.
    const worker = new Worker(
      `const { workerData } = require("node:worker_threads");
       const [words, crew] = workerData.map((memory) => new Int32Array(memory));
       Atomics.wait(words, ${ORDER + 4}, 0, 300); Atomics.store(words, ${ORDER}, 1); Atomics.notify(words, ${ORDER});
       // If nothing calls this thread: invited after all (IS_INVITED), so that the test ends.
       Atomics.wait(words, ${ORDER + 4}, 0, ${TOO_LONG_MS}); Atomics.store(crew, 4, 1);
       Atomics.add(crew, 0, 1); Atomics.notify(crew, 0);`,
      { eval: true, workerData: [words.buffer, memory] },
    );
    workers.push(worker);
    const begun = performance.now();
    expect(crew.rest()).toBe(true);
    const restedMs = performance.now() - begun;
    expect(restedMs).toBeGreaterThan(200);
    expect(restedMs).toBeLessThan(TOO_LONG_MS);
  });

  it("never lets the first one rest, who has compiled what it serves with", async () => {
    const crew = first();
    await another(1);
    receive(crew);
    expect(hasBeenActive(1)).toBe(true);
    crew.served();
    expect(crew.rest()).toBe(false);
  });

  it("never lets the only receiving thread rest", async () => {
    const crew = first();
    await another(1);
    receive(crew);
    expect(hasBeenActive(1)).toBe(true);
    Atomics.store(words, ORDER, 1);
    Atomics.notify(words, ORDER);
    await expect.poll(() => view.blockedTurns(2)).not.toBe(null);
    crew.served();
    expect(crew.rest()).toBe(false);
  });
});

describe("the main thread's view", () => {
  it("finds the thread that serves a request, while it does, by all 64 bits of the id", () => {
    const crew = first();
    const found: number[] = [];
    const whileServing = (unique: bigint): boolean => view.whileServing(unique, (tid) => found.push(tid));
    expect(whileServing(0n)).toBe(false);
    crew.serving(-2, 5, "waited for");
    expect(whileServing(0x5_ffff_fffen)).toBe(true);
    expect(whileServing(0xffff_fffen)).toBe(false);
    crew.served();
    expect(whileServing(0x5_ffff_fffen)).toBe(false);
    expect(found).toEqual([threadId()]);
  });

  it("sends an interrupted request's id to a thread, once", () => {
    const crew = first();
    expect(crew.mail()).toBe(null);
    view.mail(0xffff_ffff_ffff_fff0n);
    expect([crew.mail(), crew.mail()]).toEqual([0xffff_ffff_ffff_fff0n, null]);
  });

  it("tells a thread that receives from one that serves, and one that rests", async () => {
    const crew = first();
    expect([view.blockedTurns(1), view.areAllActive(1), view.areAllActive(2)]).toEqual([null, true, false]);
    crew.serving(1, 0, "waited for");
    const turns = view.blockedTurns(1);
    expect(turns).toHaveLength(1);
    expect(view.blockedTurns(1)).toEqual(turns);
    crew.served();
    crew.serving(2, 0, "waited for");
    expect(view.blockedTurns(1)).not.toEqual(turns);
    await another(1, 1);
    const isActive = hasBeenActive(1);
    expect([view.blockedTurns(2), view.areAllActive(2)]).toEqual([null, isActive]);
  });
});
