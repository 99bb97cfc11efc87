/**
 * QMP, QEMU's control channel: commands with answers, events in between, a JSON object a line. Not here: what any of it means
 * for a case (`guest.ts`, `exit-cause.ts`).
 *
 * Source: docs/interop/qmp-spec.rst of QEMU.
 */
import type { Duplex } from "node:stream";
import { errorText } from "../../../error-text.ts";

/** Of a line that is longer there is no use: QEMU's longest answer here has some kilobytes. */
const LINE_CHARACTERS = 1_000_000;

export type QmpEvent = { readonly name: string; readonly data: Readonly<Record<string, unknown>> };

export type QmpMessage =
  | { readonly kind: "greeting" }
  | { readonly kind: "answer"; readonly id: number | null; readonly value: unknown }
  | { readonly kind: "error"; readonly id: number | null; readonly message: string }
  | { readonly kind: "event"; readonly event: QmpEvent };

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A line of QEMU's. Throws a SyntaxError for what is no message. */
export function parseQmp(line: string): QmpMessage {
  const message: unknown = JSON.parse(line);
  if (!isRecord(message)) throw new SyntaxError(`QMP: ${line.slice(0, 100)} is no object`);
  const id = typeof message.id === "number" ? message.id : null;
  if ("QMP" in message) return { kind: "greeting" };
  if ("return" in message) return { kind: "answer", id, value: message.return };
  if (isRecord(message.error)) {
    const { class: family = "", desc = "" } = message.error;
    return { kind: "error", id, message: `${family}: ${desc}` };
  }
  if (typeof message.event === "string") {
    return {
      kind: "event",
      event: { name: message.event, data: isRecord(message.data) ? message.data : {} },
    };
  }
  throw new SyntaxError(`QMP: ${line.slice(0, 100)} is neither an answer nor an event`);
}

/** QEMU has gone, or refuses a command. */
export class QmpError extends Error {
  override readonly name = "QmpError";
}

type Waiting = { readonly resolve: (value: unknown) => void; readonly reject: (error: QmpError) => void };

export class Qmp {
  readonly #stream: Duplex;
  readonly #waiting = new Map<number, Waiting>();
  #rest = "";
  #next = 1;
  #hasGreeted = false;
  /** Why there will be no more answers; null: they come. */
  #gone: string | null = null;

  constructor(stream: Duplex, onEvent: (event: QmpEvent) => void) {
    this.#stream = stream;
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => this.#feed(text, onEvent));
    stream.on("error", () => {});
    stream.on("close", () => this.#end("QEMU has closed its QMP socket"));
  }

  #feed(text: string, onEvent: (event: QmpEvent) => void): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > LINE_CHARACTERS) this.#end("QMP: a line without an end");
    for (const line of lines) {
      if (line.trim() === "") continue;
      try {
        this.#take(parseQmp(line), onEvent);
      } catch (error) {
        this.#end(errorText(error));
      }
    }
  }

  #take(message: QmpMessage, onEvent: (event: QmpEvent) => void): void {
    switch (message.kind) {
      case "greeting":
        this.#hasGreeted = true;
        return;
      case "event":
        onEvent(message.event);
        return;
      case "answer":
        this.#settle(message.id)?.resolve(message.value);
        return;
      case "error":
        this.#settle(message.id)?.reject(new QmpError(message.message));
    }
  }

  #settle(id: number | null): Waiting | undefined {
    const waiting = id === null ? undefined : this.#waiting.get(id);
    if (id !== null) this.#waiting.delete(id);
    return waiting;
  }

  #end(why: string): void {
    this.#gone ??= why;
    for (const { reject } of this.#waiting.values()) reject(new QmpError(this.#gone));
    this.#waiting.clear();
  }

  /** QEMU has its devices: it greets before, and answers nothing until then. */
  get hasGreeted(): boolean {
    return this.#hasGreeted;
  }

  /** Rejects with a QmpError where QEMU refuses it, or has gone, or goes before it answers. */
  execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#gone !== null) {
        reject(new QmpError(this.#gone));
        return;
      }
      const id = this.#next++;
      this.#waiting.set(id, { resolve, reject });
      this.#stream.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }
}

/** `running`, `internal-error`, `paused` .. of `query-status`. */
export function statusOf(answer: unknown): string {
  return isRecord(answer) && typeof answer.status === "string" ? answer.status : "unknown";
}

/** The threads of the vCPUs by their index, of `query-cpus-fast`. */
export function threadIdsOf(answer: unknown): readonly number[] {
  if (!Array.isArray(answer)) return [];
  return answer
    .filter(isRecord)
    .map((cpu) => ({ index: Number(cpu["cpu-index"]), tid: Number(cpu["thread-id"]) }))
    .sort((a, b) => a.index - b.index)
    .map(({ tid }) => tid);
}

/** KVM's counters of each vCPU, of `query-stats` for vCPUs: as QEMU orders them, which is by their index. */
export function countersOf(answer: unknown): readonly Readonly<Record<string, bigint>>[] {
  if (!Array.isArray(answer)) return [];
  return answer.filter(isRecord).map((one) => {
    const stats = Array.isArray(one.stats) ? one.stats.filter(isRecord) : [];
    return Object.fromEntries(
      stats.flatMap(({ name, value }) =>
        typeof name === "string" && typeof value === "number" ? [[name, BigInt(value)]] : [],
      ),
    );
  });
}
