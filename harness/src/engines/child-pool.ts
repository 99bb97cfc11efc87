/**
 * Child processes that have finished one case and wait for the next: a Node process costs a seventh of a second of CPU
 * time to start, a third of what a case needs, and seconds in an emulated machine. Only one that is as it was before comes
 * back; what was held up, failed or died is killed with its case. Idle ones work for the run's folder: its sweep ends them.
 */
import { dirname } from "node:path";
import { isRunDirectory } from "../run/sweep.ts";
import { type Child, type ChildExit, startChild } from "./child.ts";

export type PooledListener<Outbound> = {
  onMessage(message: Outbound): void;
  onExit(exit: ChildExit): void;
};

/** A process, lent to one case. */
export class PooledChild<Inbound extends object, Outbound> {
  readonly directory: string;
  /** Works for the run's folder, so that it may outlive a case. */
  readonly isPooled: boolean;
  readonly #child: Child<Inbound, Outbound>;
  #listener: PooledListener<Outbound> | null = null;
  #isAlive = true;

  constructor(
    entry: string,
    directory: string,
    options: { readonly isPooled: boolean; readonly descriptors: readonly number[] },
  ) {
    this.directory = directory;
    this.isPooled = options.isPooled;
    this.#child = startChild<Inbound, Outbound>({
      entry,
      directory,
      descriptors: options.descriptors,
      onMessage: (message) => this.#listener?.onMessage(message),
    });
    void this.#child.exited.then((exit) => {
      this.#isAlive = false;
      this.#listener?.onExit(exit);
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  /** Where its messages go from now on; null: they are dropped. */
  listen(listener: PooledListener<Outbound> | null): void {
    this.#listener = listener;
  }

  send(message: Inbound): void {
    this.#child.send(message);
  }

  kill(): Promise<void> {
    return this.#child.kill();
  }
}

export class ChildPool<Inbound extends object, Outbound> {
  readonly #entry: string;
  readonly #idle: PooledChild<Inbound, Outbound>[] = [];

  /** @param entry path of the source file in the repository */
  constructor(entry: string) {
    this.#entry = entry;
  }

  /**
   * An idle process of this run, or a new one.
   * @param directory the case's folder
   * @param descriptors ours that it gets as well (`FIRST_LENT_DESCRIPTOR`): such a process is the case's alone
   */
  borrow(directory: string, descriptors: readonly number[] = []): PooledChild<Inbound, Outbound> {
    const run = dirname(directory);
    const isPooled = descriptors.length === 0 && isRunDirectory(run);
    if (!isPooled) return new PooledChild(this.#entry, directory, { isPooled, descriptors });
    const index = this.#idle.findIndex((one) => one.isAlive && one.directory === run);
    const found = index === -1 ? undefined : this.#idle.splice(index, 1)[0];
    return found ?? new PooledChild(this.#entry, run, { isPooled, descriptors });
  }

  /** Ends those that wait for a case. */
  async endIdle(): Promise<void> {
    await Promise.all(this.#idle.splice(0).map((child) => child.kill()));
  }

  /** Takes back a process that has nothing of its case left. */
  async giveBack(child: PooledChild<Inbound, Outbound>): Promise<void> {
    child.listen(null);
    if (child.isPooled && child.isAlive) this.#idle.push(child);
    else await child.kill();
  }
}
