/**
 * Faults on purpose: a decorator that delays, fails, shortens or truncates at the point where a scenario wants it.
 * Rules are data; each applies from its `after`th matching call on, `times` times (null: for ever).
 */
import type { FaultRule } from "../../../language/src/words.ts";
import { DecoratedFileSystem } from "./decorator.ts";
import { failure } from "./errors.ts";
import {
  type FileHandle,
  type FileSystem,
  NO_CHANGE,
  type NodeId,
  type SyncScope,
  type WriteHow,
} from "./filesystem.ts";
import { Postponed } from "./postponed.ts";

/** Bytes of a file that a call reads or writes. */
type Range = { readonly offset: bigint; readonly length: number };
const NOWHERE: Range = { offset: 0n, length: 0 };

function covers({ offset, length }: Range, at: number | null): boolean {
  return at === null || (offset <= BigInt(at) && BigInt(at) < offset + BigInt(length));
}

export class FaultyFileSystem extends DecoratedFileSystem {
  readonly #rules: readonly FaultRule[];
  readonly #calls: Int32Array;
  /** Set by a redeemed delay: the attempt that follows goes through. */
  #redeemed = 0;

  /** @param calls of each rule so far, shared by the threads that serve these rules */
  constructor(
    inner: FileSystem,
    rules: readonly FaultRule[],
    calls: Int32Array = new Int32Array(rules.length),
  ) {
    super(inner);
    this.#rules = rules;
    this.#calls = calls;
  }

  override open(node: NodeId, flags: number): FileHandle {
    this.#apply("open", node);
    return super.open(node, flags);
  }

  override read(handle: FileHandle, offset: bigint, into: Uint8Array): number {
    const limit = this.#apply("read", this.#nodeOf(handle), { offset, length: into.length });
    return super.read(handle, offset, into.subarray(0, limit ?? into.length));
  }

  override write(handle: FileHandle, offset: bigint, data: Uint8Array, how?: WriteHow): number {
    const limit = this.#apply("write", this.#nodeOf(handle), { offset, length: data.length });
    return super.write(handle, offset, data.subarray(0, limit ?? data.length), how);
  }

  override fsync(handle: FileHandle, scope: SyncScope): void {
    this.#apply("fsync", this.#nodeOf(handle));
    super.fsync(handle, scope);
  }

  override getattr(node: NodeId): ReturnType<FileSystem["getattr"]> {
    this.#apply("getattr", node);
    return super.getattr(node);
  }

  /** Content must come by us: the kernel's pass-through would go around the faults. */
  override descriptorOf(): null {
    return null;
  }

  #nodeOf(handle: FileHandle): NodeId | null {
    return this.inner.openedBy(handle)?.node ?? null;
  }

  /** Applies the rules of an operation; returns the byte limit of a `short` rule, or null. */
  #apply(operation: FaultRule["operation"], node: NodeId | null, range: Range = NOWHERE): number | null {
    const redeemed = this.#redeemed > 0;
    let limit: number | null = null;
    let delayMs = 0;
    for (const [place, rule] of this.#rules.entries()) {
      if (rule.operation !== operation || !covers(range, rule.at)) continue;
      // A postponed call comes twice and counts once.
      const earlier = redeemed ? Atomics.load(this.#calls, place) - 1 : Atomics.add(this.#calls, place, 1);
      const index = earlier - rule.after;
      if (index < 0 || (rule.times !== null && index >= rule.times)) continue;
      const { action } = rule;
      switch (action.kind) {
        case "delay":
          if (!redeemed) delayMs = Math.max(delayMs, action.ms);
          break;
        case "fail":
          if (delayMs === 0) throw this.#spent(failure(action.errno));
          break;
        case "hang":
          // Kept with the requests that are served later, and never due.
          delayMs = Number.POSITIVE_INFINITY;
          break;
        case "short":
          limit = (rule.at === null ? 0 : Number(BigInt(rule.at) - range.offset)) + action.bytes;
          break;
        case "truncate":
          if (node !== null && delayMs === 0) {
            super.setattr(node, { ...NO_CHANGE, sizeBytes: BigInt(action.sizeBytes) }, null);
          }
          break;
        default:
          return action satisfies never;
      }
    }
    if (delayMs > 0) {
      throw new Postponed(delayMs, () => {
        this.#redeemed += 1;
      });
    }
    if (redeemed) this.#redeemed -= 1;
    return limit;
  }

  #spent<E>(error: E): E {
    if (this.#redeemed > 0) this.#redeemed -= 1;
    return error;
  }
}
