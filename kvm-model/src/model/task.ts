/** A task of the guest: where it is in its program, and what its accesses saw. A view; see `machine.ts`. */
import type { OnSigbus } from "../../../language/src/index.ts";
import { type AccessStep, isAccess, type Task as TaskCase, type TaskStep } from "./case.ts";
import {
  NO_TOKEN,
  type Offsets,
  READY,
  type Ready,
  SAW,
  type Saw,
  TASK,
  type TaskState,
  type Token,
} from "./fields.ts";
import type { Machine } from "./machine.ts";
import type { Vcpu } from "./vcpu.ts";

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
  readonly #at: Offsets;
  readonly #vcpu: number;
  /** By step and one further: the step if it is one, and if it is an access. */
  readonly #stepAt: readonly (TaskStep | null)[];
  readonly #accessAt: readonly (AccessStep | null)[];
  readonly #sawAt: number;

  constructor(m: Machine, index: number, task: TaskCase, firstStep: number) {
    this.index = index;
    this.name = task.name;
    this.steps = task.steps;
    this.startsAsleep = task.asleep === true;
    this.onSigbus = task.onSigbus ?? "next-step";
    this.isBystander = task.steps.at(-1)?.op === "count";
    this.#m = m;
    this.#at = m.context.offsets;
    this.#vcpu = task.vcpu;
    this.#stepAt = [...task.steps, null];
    this.#accessAt = this.#stepAt.map((step) => (step !== null && isAccess(step) ? step : null));
    this.#sawAt = this.#at.taskSaw + firstStep;
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
    return this.#m.bytes[this.#at.taskStep + this.index] as number;
  }

  get currentStep(): TaskStep | null {
    return this.#stepAt[this.step] as TaskStep | null;
  }

  /** The access that it is at, if the step is one. */
  get currentAccess(): AccessStep | null {
    return this.#accessAt[this.step] as AccessStep | null;
  }

  get state(): TaskState {
    return TASK.word(this.#m.bytes[this.#at.taskState + this.index] as number);
  }

  set state(state: TaskState) {
    this.#m.bytes[this.#at.taskState + this.index] = TASK.byte(state);
  }

  /** The token that it sleeps on. */
  get token(): Token {
    return this.#m.bytes[this.#at.taskToken + this.index] as Token;
  }

  set token(token: Token) {
    this.#m.bytes[this.#at.taskToken + this.index] = token;
  }

  /** The error flag that it was woken with. */
  get wokenWith(): Ready {
    return READY.word(this.#m.bytes[this.#at.taskError + this.index] as number);
  }

  set wokenWith(flags: Ready) {
    this.#m.bytes[this.#at.taskError + this.index] = READY.byte(flags);
  }

  /** A bystander has counted. */
  count(): void {
    this.#m.bytes[this.#at.taskCounted + this.index] = 1;
  }

  saw(step: number): Saw {
    return SAW.word(this.#m.bytes[this.#sawAt + step] as number);
  }

  /** What the current step saw. */
  set sees(saw: Saw) {
    this.#m.bytes[this.#sawAt + this.step] = SAW.byte(saw);
  }

  /** Past the current step, whose outcome stands; the store was lost without a report. */
  skipStep(): void {
    this.#m.bytes[this.#at.taskStep + this.index] = this.step + 1;
  }

  /** The current step is over. A task past its last step is done. */
  advance(saw: Saw): void {
    this.sees = saw;
    this.skipStep();
    this.wokenWith = "ok";
    if (this.step >= this.steps.length) this.state = "done";
  }

  die(): void {
    if (this.currentAccess !== null) this.sees = "killed";
    this.state = "dead";
    this.token = NO_TOKEN;
  }
}

export function taskName(task: Task | null): string {
  return task?.name ?? "idle";
}
