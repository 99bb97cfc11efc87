/** Sends hostile messages to a session and checks what must hold after each: for tests and the fuzz script. */
import { offsetsOf } from "../abi/layout.ts";
import { opcodeRow } from "../abi/opcodes.ts";
import { IN_HEADER_BYTES } from "../core/request.ts";
import { type MessageResult, Session, type SessionOptions } from "../core/session.ts";
import type { FileSystem } from "../fs/filesystem.ts";
import { encodeRequest, MemoryClient } from "../transport/memory/client.ts";
import { hostileMessage, Random } from "./generate.ts";

export type FuzzFigures = {
  readonly messages: number;
  readonly answered: number;
  readonly withoutReply: number;
  readonly malformed: number;
  readonly postponed: number;
  readonly protocolErrors: number;
  readonly defects: number;
  readonly sessions: number;
  /** Broken promises, each a sentence with the seed and the message's number. */
  readonly failures: readonly string[];
};

export type FuzzOptions = {
  /** A fresh one per session, so that its small node and handle numbers are the ones that messages name. */
  readonly fs: () => FileSystem;
  readonly seed: number;
  readonly messages: number;
  readonly session?: Omit<SessionOptions, "fs">;
};

const IN = offsetsOf("fuse_in_header");
const MAX_FAILURES = 20;

/**
 * Promises checked per message: `handle` does not throw; a request is answered exactly once, or never if its opcode
 * has no reply; a message without a whole header is not answered. At the end: DESTROY leaves no node and no handle.
 */
export function fuzz(options: FuzzOptions): FuzzFigures {
  const random = new Random(options.seed);
  const failures: string[] = [];
  const kinds = { answered: 0, "no-reply": 0, malformed: 0, postponed: 0, ended: 0 };
  const totals = { protocolErrors: 0, defects: 0, sessions: 0 };
  let session: Session | null = null;
  let client: MemoryClient | null = null;
  let fs: FileSystem | null = null;
  const retire = (): void => {
    if (session === null || client === null || fs === null) return;
    client.send(encodeRequest("DESTROY", 1n, {}));
    session.end();
    const usage = fs.usage();
    fs.close();
    if (usage.nodes !== 0 || usage.handles !== 0) {
      failures.push(`seed ${options.seed}: ${usage.nodes} nodes and ${usage.handles} handles leaked`);
    }
    totals.protocolErrors += session.counts.protocolErrors;
    totals.defects += session.counts.defects;
    session = null;
  };
  for (let i = 0; i < options.messages && failures.length < MAX_FAILURES; i += 1) {
    if (session === null || client === null || session.agreement === null) {
      retire();
      fs = options.fs();
      session = new Session({ ...options.session, fs });
      client = new MemoryClient(session, { split: random.pick([null, 1, 7, 64]), capacityBytes: 4096 });
      client.init();
      totals.sessions += 1;
    }
    const unique = BigInt(i) * 2n + 1_000_000n;
    const message = hostileMessage(random, unique);
    try {
      const { result, answer } = client.send(message);
      kinds[result.kind] += 1;
      const replies = client.answers.get(unique) ?? 0;
      const wrong = promiseBroken(message, { kind: result.kind, answered: answer !== null, replies });
      if (wrong !== null) failures.push(`seed ${options.seed}, message ${i}: ${wrong}`);
      client.answers.clear();
    } catch (error) {
      failures.push(`seed ${options.seed}, message ${i}: the core threw ${String(error)}`);
    }
  }
  retire();
  return {
    messages: options.messages,
    answered: kinds.answered,
    withoutReply: kinds["no-reply"],
    malformed: kinds.malformed,
    postponed: kinds.postponed,
    ...totals,
    failures,
  };
}

type Handled = { readonly kind: MessageResult["kind"]; readonly answered: boolean; readonly replies: number };

function promiseBroken(message: Uint8Array, { kind, answered, replies }: Handled): string | null {
  if (message.length < IN_HEADER_BYTES) {
    return kind === "malformed" && !answered ? null : `a torn header was ${kind}`;
  }
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  const name = opcodeRow(view.getUint32(IN.opcode, true))?.name;
  if (kind === "answered" && replies !== 1) return `${name}: answered ${replies} times`;
  if (kind === "no-reply" && replies !== 0) return `${name}: answered although it has no reply`;
  if (kind === "malformed" || kind === "ended") return `${name}: ${kind}`;
  return null;
}
