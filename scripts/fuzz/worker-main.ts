/**
 * Carries inputs out one after the other, as the parent asks by IPC: `worker-main ROOT SEEDS SEED ONLY`. Standard output and
 * error are files in ROOT, for what is not taken by `write-watch.ts`: the words of a process that dies.
 */
import { readFileSync, realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Change, carryOut, HANG_CPU_MS, type Surroundings } from "./carry-out.ts";
import type { FuzzInput, FuzzResult } from "./input.ts";
import { Kitchen, makeInput } from "./kinds.ts";
import { Place } from "./place.ts";
import { Random } from "./random.ts";
import type { Seeds } from "./seeds.ts";
import { captureStreams, watchWrites } from "./write-watch.ts";

/** Inputs by their numbers, or one as it is (while it is made smaller). */
export type WorkerRequest =
  | { readonly kind: "range"; readonly from: number; readonly end: number }
  | { readonly kind: "input"; readonly input: FuzzInput };

/** `index`: of a range, else -1. `input`: only where it breaks a promise. */
export type WorkerReply = {
  readonly index: number;
  readonly input: FuzzInput | null;
  readonly result: FuzzResult;
};

/** Replies are sent together, at most so long after the first of them: the parent watches the time between. */
const FLUSH_MS = 100;
/** Between two listings of everything below the place. Where the second is otherwise, those between are carried out again. */
const DEEP_INPUTS = 500;

const cpuMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

class Carrier {
  readonly #around: Surroundings;
  readonly #make: (index: number) => FuzzInput;
  /** Since the last whole listing. */
  #recent: number[] = [];
  #waiting: WorkerReply[] = [];
  #flushedMs = performance.now();
  #flushedCpuMs: number = cpuMs();

  constructor(around: Surroundings, make: (index: number) => FuzzInput) {
    this.#around = around;
    this.#make = make;
  }

  #flush(): void {
    process.send?.(this.#waiting);
    this.#waiting = [];
    this.#flushedMs = performance.now();
    this.#flushedCpuMs = cpuMs();
  }

  #add(reply: WorkerReply): void {
    this.#waiting.push(reply);
    if (performance.now() - this.#flushedMs > FLUSH_MS) this.#flush();
  }

  async #carry(input: FuzzInput, index: number, depth: "usual" | "deep"): Promise<WorkerReply> {
    const beganMs = performance.now();
    const result = await carryOut(this.#around, input, depth);
    const { problems } = result;
    if (performance.now() - beganMs > HANG_CPU_MS && !input.isProcess) {
      const spentMs = cpuMs() - this.#flushedCpuMs;
      const hang = `hangs: ${(spentMs / 1000).toFixed(1)} s of CPU time`;
      if (spentMs > HANG_CPU_MS)
        return { index, input, result: { ...result, problems: [hang, ...problems] } };
    }
    return { index, input: problems.length > 0 ? input : null, result };
  }

  async one(input: FuzzInput): Promise<void> {
    this.#add(await this.#carry(input, -1, "deep"));
    this.#flush();
  }

  /** What the calls of node:fs did not show: the inputs since the last listing are carried out again, each with one. */
  async #again(found: WorkerReply): Promise<WorkerReply> {
    for (const index of this.#recent) {
      const reply = await this.#carry(this.#make(index), index, "deep");
      if (reply.input !== null) return { ...reply, index: found.index };
    }
    return found;
  }

  async range(from: number, end: number): Promise<void> {
    for (let index = from; index < end; index += 1) {
      const isDeep = this.#recent.length >= DEEP_INPUTS || index === end - 1;
      const reply = await this.#carry(this.#make(index), index, isDeep ? "deep" : "usual");
      this.#recent.push(index);
      this.#add(isDeep && reply.input !== null ? await this.#again(reply) : reply);
      if (isDeep) this.#recent = [];
    }
    this.#flush();
  }
}

function main([root = "", seedsPath = "", seed = "1", only = ""]: readonly string[]): void {
  const kitchen = new Kitchen(JSON.parse(readFileSync(seedsPath, "utf8")) as Seeds);
  let changes: Change[] = [];
  let isWatching = false;
  watchWrites(
    () => isWatching,
    (name, place) => changes.push({ name, place }),
  );
  const around: Surroundings = {
    dist: fileURLToPath(new URL("../..", import.meta.url)),
    place: new Place(realpathSync(root)),
    streams: captureStreams(() => isWatching),
    watch: (isOn) => {
      isWatching = isOn === "on";
    },
    takeChanges() {
      const taken = changes;
      changes = [];
      return taken;
    },
  };
  const carrier = new Carrier(around, (index) =>
    makeInput(Random.of(Number(seed), index), kitchen, only === "" ? null : only),
  );
  const answer = (request: WorkerRequest): Promise<void> =>
    request.kind === "input" ? carrier.one(request.input) : carrier.range(request.from, request.end);
  process.on("message", (request: WorkerRequest) => {
    answer(request).catch((error: unknown) => {
      throw error;
    });
  });
  process.on("disconnect", () => process.exit(0));
}

main(process.argv.slice(2));
