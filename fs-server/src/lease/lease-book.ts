/**
 * The leases that a file server itself grants: which client has mapped which file. The server asks this gate before it
 * truncates. Truncations that bypass the server are not seen.
 */

import { Recalls } from "../guard/recalls.ts";
import type { GuardOptions, MappingHolder } from "../guard/truncation-guard.ts";
import { type FileIdentity, FREE, type GateTicket, type TruncationGate } from "./truncation-gate.ts";

export const keyOf = ({ device, ino }: FileIdentity): string => `${device}/${ino}`;

export class LeaseBook implements TruncationGate {
  readonly #options: GuardOptions;
  readonly #held = new Map<string, Set<Recalls>>();
  readonly #tickets = new Map<GateTicket, { readonly key: string; open: boolean }>();
  #count = 0;
  /** Called when a file gets its first lease (+1) or loses its last one (-1). */
  onChange: (file: FileIdentity, change: 1 | -1) => void = () => {};

  constructor(options: GuardOptions) {
    this.#options = options;
  }

  /** Grants a lease. Returns how to give it back: once, further calls do nothing. */
  hold(file: FileIdentity, holder: MappingHolder): () => void {
    const key = keyOf(file);
    const recalls = new Recalls(holder, this.#options);
    const sharing = this.#held.get(key) ?? new Set();
    this.#held.set(key, sharing.add(recalls));
    if (sharing.size === 1) this.onChange(file, 1);
    return () => {
      if (!sharing.delete(recalls) || sharing.size > 0) return;
      this.#held.delete(key);
      this.onChange(file, -1);
    };
  }

  /** @param onOpen called once the truncation may proceed, unless it may at once (FREE) */
  ask(file: FileIdentity, fromBytes: bigint, onOpen: () => void = () => {}): GateTicket {
    const key = keyOf(file);
    const holders = [...(this.#held.get(key) ?? [])].filter(({ isCutOff }) => !isCutOff);
    if (holders.length === 0) return FREE;
    this.#count += 1;
    const state = { key, open: false };
    this.#tickets.set(this.#count, state);
    const threat = { fromBytes, by: "another client of the server" };
    void Promise.all(holders.map((recalls) => recalls.recall(threat))).then(() => {
      state.open = true;
      onOpen();
    });
    return this.#count;
  }

  isHeld(file: FileIdentity): boolean {
    return this.#held.has(keyOf(file));
  }

  grown(file: FileIdentity, sizeBytes: bigint): void {
    this.#settle(keyOf(file), sizeBytes);
  }

  isOpen(ticket: GateTicket): boolean {
    return this.#tickets.get(ticket)?.open ?? true;
  }

  done(ticket: GateTicket, sizeBytes: bigint): void {
    const state = this.#tickets.get(ticket);
    this.#tickets.delete(ticket);
    if (state !== undefined) this.#settle(state.key, sizeBytes);
  }

  #settle(key: string, sizeBytes: bigint): void {
    // Several truncations at once: the end of the last one settles.
    if ([...this.#tickets.values()].some((other) => other.key === key)) return;
    for (const recalls of this.#held.get(key) ?? []) recalls.settle(sizeBytes);
  }
}
