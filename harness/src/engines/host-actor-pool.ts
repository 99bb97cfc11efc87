/**
 * Host actors that have finished one case and wait for the next: a Node process costs a seventh of a second of CPU time
 * to start, a third of what a case needs. Only an actor that has done all its steps comes back; one that was held up,
 * failed or died is killed with its case. Idle ones work for the run's folder, so its sweep ends them.
 */
import { dirname } from "node:path";
import { isRunDirectory } from "../run/sweep.ts";
import { type Child, type ChildExit, startChild } from "./child.ts";
import type { HostActorInbound, HostActorOutbound } from "./host-actor.ts";

export type HostActorListener = {
  onMessage(message: HostActorOutbound): void;
  onExit(exit: ChildExit): void;
};

/** A host actor's process, lent to one case. */
export class HostActorProcess {
  readonly directory: string;
  /** Works for the run's folder, so that it may outlive a case. */
  readonly isPooled: boolean;
  readonly #child: Child<HostActorInbound, HostActorOutbound>;
  #listener: HostActorListener | null = null;
  #isAlive = true;

  constructor(directory: string, options: { readonly isPooled: boolean }) {
    this.directory = directory;
    this.isPooled = options.isPooled;
    this.#child = startChild<HostActorInbound, HostActorOutbound>({
      entry: "harness/src/engines/host-actor-main.ts",
      directory,
      onMessage: (message) => this.#listener?.onMessage(message),
    });
    void this.#child.exited.then((exit) => {
      this.#isAlive = false;
      this.#listener?.onExit(exit);
    });
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  /** Whom its news go to from now on; null: nobody. */
  listen(listener: HostActorListener | null): void {
    this.#listener = listener;
  }

  send(message: HostActorInbound): void {
    this.#child.send(message);
  }

  kill(): Promise<void> {
    return this.#child.kill();
  }
}

const idle: HostActorProcess[] = [];

/** An idle process of this run, or a new one. @param directory the case's folder */
export function borrowHostActor(directory: string): HostActorProcess {
  const run = dirname(directory);
  if (!isRunDirectory(run)) return new HostActorProcess(directory, { isPooled: false });
  const index = idle.findIndex((one) => one.isAlive && one.directory === run);
  const found = index === -1 ? undefined : idle.splice(index, 1)[0];
  return found ?? new HostActorProcess(run, { isPooled: true });
}

/** Gives back a process whose actor has finished all its steps. */
export async function returnHostActor(actor: HostActorProcess): Promise<void> {
  actor.listen(null);
  if (actor.isPooled && actor.isAlive) idle.push(actor);
  else await actor.kill();
}
