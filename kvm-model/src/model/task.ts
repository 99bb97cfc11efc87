/** A task of the guest: where it is in its program, and what its accesses saw. A view; see `machine.ts`. */
import type { OnSigbus } from "../../../language/src/index.ts";
import { Words } from "../state/words.ts";
import { type AccessStep, isAccess, type Task as TaskCase, type TaskStep } from "./case.ts";
import { NO_TOKEN, type Token } from "./fields.ts";
import type { Machine } from "./machine.ts";
import type { Vcpu } from "./vcpu.ts";
import { type Ready, readyWords } from "./vcpu.ts";

/** The result of an access. */
const sights = [
  "nothing",
  "value",
  "zero",
  "stale",
  "sigbus-adrerr",
  "sigbus-mceerr",
  "efault",
  "killed",
] as const;
export type Saw = (typeof sights)[number];
const SAW = new Words(sights);

const taskStates = ["runnable", "sleeping", "done", "dead"] as const;
export type TaskState = (typeof taskStates)[number];
const TASK = new Words(taskStates);

export class Task {
  readonly index: number;
  readonly name: string;
  readonly steps: readonly TaskStep[];
  /** Asleep at first, on a token whose page-ready never comes. */
  readonly startsAsleep: boolean;
  readonly onSigbus: OnSigbus;
  /** Counts for ever once it has come there; has no end. */
  readonly isBystander: boolean;
  readonly #m: Machine;
  readonly #stepAt: number;
  readonly #stateAt: number;
  readonly #tokenAt: number;
  readonly #errorAt: number;
  readonly #countedAt: number;
  readonly #begunAt: number;
  readonly #vcpu: number;
  /** By step and one further: the step if it is one, and if it is an access. */
  readonly #program: readonly (TaskStep | null)[];
  readonly #accesses: readonly (AccessStep | null)[];
  readonly #sawAt: number;

  constructor(m: Machine, index: number, task: TaskCase, firstStep: number) {
    this.index = index;
    this.name = task.name;
    this.steps = task.steps;
    this.startsAsleep = task.asleep === true;
    this.onSigbus = task.onSigbus ?? "next-step";
    this.isBystander = task.steps.at(-1)?.op === "count";
    this.#m = m;
    const at = m.context.offsets;
    this.#stepAt = at.taskStep + index;
    this.#stateAt = at.taskState + index;
    this.#tokenAt = at.taskToken + index;
    this.#errorAt = at.taskError + index;
    this.#countedAt = at.taskCounted + index;
    this.#begunAt = at.taskBegun + index;
    this.#vcpu = task.vcpu;
    this.#program = [...task.steps, null];
    this.#accesses = this.#program.map((step) => (step !== null && isAccess(step) ? step : null));
    this.#sawAt = at.taskSaw + firstStep;
  }

  /** The actor of the task's steps. */
  get actor(): string {
    return `task.${this.name}`;
  }

  get vcpu(): Vcpu {
    return this.#m.vcpus[this.#vcpu] as Vcpu;
  }

  /** Index of the step that it is at. */
  get step(): number {
    return this.#m.bytes[this.#stepAt] as number;
  }

  get currentStep(): TaskStep | null {
    return this.#program[this.step] as TaskStep | null;
  }

  /** The access that it is at, if the step is one. */
  get currentAccess(): AccessStep | null {
    return this.#accesses[this.step] as AccessStep | null;
  }

  get state(): TaskState {
    return TASK.word(this.#m.bytes[this.#stateAt] as number);
  }

  set state(state: TaskState) {
    this.#m.bytes[this.#stateAt] = TASK.byte(state);
  }

  /** The token that it sleeps on. */
  get token(): Token {
    return this.#m.bytes[this.#tokenAt] as Token;
  }

  set token(token: Token) {
    this.#m.bytes[this.#tokenAt] = token;
  }

  /** The error flag that it was woken with. */
  get wokenWith(): Ready {
    return readyWords.word(this.#m.bytes[this.#errorAt] as number);
  }

  set wokenWith(flags: Ready) {
    this.#m.bytes[this.#errorAt] = readyWords.byte(flags);
  }

  /** A bystander has counted. */
  count(): void {
    this.#m.bytes[this.#countedAt] = 1;
  }

  /** Has it executed the access that it is at? It stays so while the access faults, and where the task loses the CPU. */
  get hasBegun(): boolean {
    return this.#m.bytes[this.#begunAt] !== 0;
  }

  begin(): void {
    this.#m.bytes[this.#begunAt] = 1;
  }

  saw(step: number): Saw {
    return SAW.word(this.#m.bytes[this.#sawAt + step] as number);
  }

  /** The result of the current step. */
  set sees(saw: Saw) {
    this.#m.bytes[this.#sawAt + this.step] = SAW.byte(saw);
  }

  /** The current step is over. A task past its last step is done. */
  advance(saw: Saw): void {
    this.sees = saw;
    this.#m.bytes[this.#stepAt] = this.step + 1;
    this.#m.bytes[this.#begunAt] = this.currentAccess?.continues === true ? 1 : 0;
    this.wokenWith = "ok";
    if (this.step >= this.steps.length) this.state = "done";
  }

  /** An access that it has not begun stays unseen. */
  die(): void {
    if (this.hasBegun) this.sees = "killed";
    this.#m.bytes[this.#begunAt] = 0;
    this.state = "dead";
    this.token = NO_TOKEN;
  }
}

export function taskName(task: Task | null): string {
  return task?.name ?? "idle";
}
