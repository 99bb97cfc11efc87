/**
 * Everything that a diagnosis reads, to be read again elsewhere: `daxfault diagnose --record FILE`, and tests by what real
 * machines said. An answer is found by what was asked; asked again, the next one is given, and at last the same once more.
 */
import type { TraceSelection, TraceSession, TraceText } from "../tracing/tracefs.ts";
import type { Answer, FileStatus, Host } from "./host.ts";

type StatusText = {
  readonly [Member in keyof FileStatus]: FileStatus[Member] extends bigint ? string : boolean;
};
type Recorded = Answer<string | readonly string[] | StatusText>;

export type Recording = {
  readonly kernel: string;
  readonly isRoot: boolean;
  /** `read PATH`, `list PATH`, `link PATH`, `status PATH`: successive answers; one that repeats the last is left out. */
  readonly answers: Readonly<Record<string, readonly Recorded[]>>;
  /** By the name of the selection. */
  readonly traces: Readonly<Record<string, TraceText>>;
  /** Of every question about the time. */
  readonly times: readonly number[];
};

const textOf = (status: FileStatus): StatusText => ({
  ...status,
  sizeBytes: String(status.sizeBytes),
  inode: String(status.inode),
});

const statusOf = (text: StatusText): FileStatus => ({
  ...text,
  sizeBytes: BigInt(text.sizeBytes),
  inode: BigInt(text.inode),
});

export class RecordingHost implements Host {
  readonly #host: Host;
  readonly #answers: Record<string, Recorded[]> = {};
  readonly #traces: Record<string, TraceText> = {};
  readonly #times: number[] = [];

  constructor(host: Host) {
    this.#host = host;
  }

  recording(about: Pick<Recording, "kernel" | "isRoot">): Recording {
    return { ...about, answers: this.#answers, traces: this.#traces, times: this.#times };
  }

  #keep(key: string, answer: Recorded): void {
    const known = this.#answers[key] ?? [];
    this.#answers[key] = known;
    known.push(answer);
  }

  workedMs(): number {
    return this.#host.workedMs();
  }

  nowMs(): number {
    const now = Math.round(this.#host.nowMs() * 10) / 10;
    this.#times.push(now);
    return now;
  }

  sleep(ms: number): Promise<void> {
    return this.#host.sleep(ms);
  }

  read(path: string, limitBytes: number): Answer<string> {
    const answer = this.#host.read(path, limitBytes);
    this.#keep(`read ${path}`, answer);
    return answer;
  }

  async readOfMemory(path: string, limitBytes: number): Promise<Answer<string>> {
    const answer = await this.#host.readOfMemory(path, limitBytes);
    this.#keep(`read ${path}`, answer);
    return answer;
  }

  list(path: string): Answer<readonly string[]> {
    const answer = this.#host.list(path);
    this.#keep(`list ${path}`, answer);
    return answer;
  }

  link(path: string): Answer<string> {
    const answer = this.#host.link(path);
    this.#keep(`link ${path}`, answer);
    return answer;
  }

  async status(path: string): Promise<Answer<FileStatus>> {
    const answer = await this.#host.status(path);
    this.#keep(`status ${path}`, answer.kind === "ok" ? { kind: "ok", value: textOf(answer.value) } : answer);
    return answer;
  }

  trace(selection: TraceSelection): TraceSession {
    const session = this.#host.trace(selection);
    const keep = (text: TraceText): TraceText => {
      this.#traces[selection.name] = text;
      return text;
    };
    return { drain: () => keep(session.drain()), finish: () => keep(session.finish()) };
  }
}

const missing: Answer<never> = { kind: "failed", code: "ENOENT" };

/** Answers as the recorded machine did; what was not asked there is not there. */
export class RecordedHost implements Host {
  readonly #recording: Recording;
  readonly #asked = new Map<string, number>();
  #time = 0;

  constructor(recording: Recording) {
    this.#recording = recording;
  }

  #next(key: string): Recorded {
    const answers = this.#recording.answers[key] ?? [];
    const count = this.#asked.get(key) ?? 0;
    this.#asked.set(key, count + 1);
    return answers[count] ?? answers.at(-1) ?? missing;
  }

  /** What is recorded was read in time. */
  workedMs(): number {
    return 0;
  }

  nowMs(): number {
    const { times } = this.#recording;
    const now = times[this.#time] ?? times.at(-1) ?? 0;
    this.#time += 1;
    return now;
  }

  async sleep(): Promise<void> {}

  read(path: string): Answer<string> {
    return this.#next(`read ${path}`) as Answer<string>;
  }

  async readOfMemory(path: string): Promise<Answer<string>> {
    return this.#next(`read ${path}`) as Answer<string>;
  }

  list(path: string): Answer<readonly string[]> {
    return this.#next(`list ${path}`) as Answer<readonly string[]>;
  }

  link(path: string): Answer<string> {
    return this.#next(`link ${path}`) as Answer<string>;
  }

  async status(path: string): Promise<Answer<FileStatus>> {
    const answer = this.#next(`status ${path}`) as Answer<StatusText>;
    return answer.kind === "ok" ? { kind: "ok", value: statusOf(answer.value) } : answer;
  }

  trace({ name }: TraceSelection): TraceSession {
    const none: TraceText = { kind: "none", reason: "not recorded" };
    const text = this.#recording.traces[name] ?? none;
    return { drain: () => text, finish: () => text };
  }
}
