/**
 * The bytes that finished accesses have seen, and what they mean. Taken as they arrive, with what the file holds at that
 * moment; classified when all are in, because those of two tasks may arrive in either order.
 */
import {
  type Access,
  type AccessStep,
  classifyAccess,
  fileOffsetAt,
  fromValue,
  guestActors,
  type HasWritten,
  heldAt,
  isAboutBytes,
  isAccess,
  leftValue,
  mayBeWritten,
  type Scenario,
  type StepAt,
  touchOf,
  toValue,
  wasHeld,
  writtenBy,
  writtenTo,
} from "../../../language/src/index.ts";
import type { HostSetup } from "./host-setup.ts";

/** The bytes that an access has seen, and what the file held when they arrived. */
type SeenBytes = {
  readonly actor: string;
  readonly index: number;
  readonly step: AccessStep;
  readonly fileOffset: bigint;
  readonly bytes: Uint8Array;
  readonly fileNow: Uint8Array;
};

type SeenSetup = Pick<HostSetup, "readFile" | "fileSize" | "hostSteps">;

export class SeenAccesses {
  readonly #scenario: Scenario;
  readonly #setup: SeenSetup;
  readonly #seen = new Map<string, SeenBytes>();

  constructor(scenario: Scenario, setup: SeenSetup) {
    this.#scenario = scenario;
    this.#setup = setup;
  }

  /**
   * Takes the result of a step as of now. What is no access of the scenario is ignored.
   * @param task number of the guest actor
   * @param bytes as many as the step sees
   */
  take(task: number, index: number, bytes: Uint8Array): void {
    const [actor, { steps }] = guestActors(this.#scenario)[task] ?? ["", { steps: [] }];
    const step = steps[index];
    if (step === undefined || !isAccess(step)) return;
    const fileOffset = isAboutBytes(step) ? fileOffsetAt(this.#scenario, step.offset) : 0n;
    const fileNow = this.#fileNow(step, fileOffset, bytes.length);
    this.#seen.set(`${actor}/${index}`, { actor, index, step, fileOffset, bytes, fileNow });
  }

  #fileNow(step: AccessStep, fileOffset: bigint, lengthBytes: number): Uint8Array {
    switch (touchOf(step).kind) {
      case "size":
        return fromValue(this.#setup.fileSize(), lengthBytes);
      case "sync":
      case "resize":
        return new Uint8Array();
      default: {
        const written = mayBeWritten(this.#scenario, fileOffset, lengthBytes);
        return this.#setup.readFile(fileOffset, lengthBytes, { written });
      }
    }
  }

  #classify({ actor, index, step, fileOffset, bytes, fileNow }: SeenBytes): Access {
    const hasWritten: HasWritten = (at) => {
      const seen = this.#seen.get(`${at.actor}/${at.index}`);
      if (seen === undefined) return writtenBy(this.#scenario, {}, this.#setup.hostSteps())(at);
      // An atomic access reports what it has found.
      return seen.step.verb === "atomic" || this.#classify(seen).kind === "value";
    };
    return classifyAccess(step, fileOffset, bytes, {
      zerosAreHeld: () => heldAt(this.#scenario, { actor, index }, hasWritten).zerosAreHeld,
      fileNow: () => fileNow,
      wasHeld: (found) =>
        wasHeld(this.#scenario, { actor, index }, found, {
          leftBy: (at) => this.#leftBy(at),
          isDone: (at) => this.#isDone(at),
        }),
    });
  }

  /** Of an access that has ended: what it left of what it has seen. */
  #leftBy(at: StepAt): Uint8Array | null {
    const seen = this.#seen.get(`${at.actor}/${at.index}`);
    if (seen !== undefined) return fromValue(leftValue(seen.step, toValue(seen.bytes)), seen.bytes.length);
    return this.#isDone(at) ? writtenTo(this.#scenario, at) : null;
  }

  #isDone(at: StepAt): boolean {
    return (
      this.#seen.has(`${at.actor}/${at.index}`) || writtenBy(this.#scenario, {}, this.#setup.hostSteps())(at)
    );
  }

  /** What a finished access has seen; null: none such has arrived. */
  access(actor: string, index: number): Access | null {
    const seen = this.#seen.get(`${actor}/${index}`);
    return seen === undefined ? null : this.#classify(seen);
  }
}
