/**
 * Hostile clients of the lease socket: malformed, huge, split and interleaved messages, clients that vanish, that do not
 * read, that do not acknowledge, more connections than there may be; while files are truncated.
 *
 * Promises checked: nothing throws; every truncation may proceed within the guard's bound; it waits for the acknowledgement
 * of an honest client that holds the file, which is settled afterwards and never cut off; a connection's end gives back all
 * that it held: afterwards no file is held, no truncation is in progress, and as many leases can be had as at the beginning;
 * no descriptor stays, and memory is bounded. The same seed sends the same; the order of arrivals is the machine's.
 */
import { readdirSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { LineReader } from "../guard/lines.ts";
import { CrossThreadGate, GateKeeper, gateMemory } from "../lease/cross-thread-gate.ts";
import { LeaseBook } from "../lease/lease-book.ts";
import { line, type ToClient } from "../lease/lease-messages.ts";
import { type LeaseLimits, serveLeases } from "../lease/lease-server.ts";
import type { FileIdentity } from "../lease/truncation-gate.ts";
import { Random } from "./generate.ts";

export type LeaseFuzzFigures = {
  readonly messages: number;
  readonly connections: number;
  readonly truncations: number;
  readonly longestTruncationMs: number;
  /** Of all that were sent to hostile clients, by kind. */
  readonly granted: number;
  readonly refused: number;
  readonly recalls: number;
  readonly closed: number;
  readonly defects: 0;
  readonly grownMiB: number;
  /** Broken promises, each a sentence with the seed and the life's number. */
  readonly failures: readonly string[];
};

export type LeaseFuzzOptions = {
  /** Where the socket may be; its folder exists. */
  readonly path: string;
  readonly seed: number;
  readonly messages: number;
};

const LIMITS: LeaseLimits = { clients: 12, holdsPerClient: 6, holds: 24, unreadBytes: 65_536 };
/** Messages of one server's life. */
const LIFE_MESSAGES = 800;
/** One life in so many begins with a flood of connections. */
const FLOOD_EACH = 8;
const FLOOD = 1000;
/** The honest client answers in the same thread: a pause of it that is as long would count as silence. */
const BOUND_MS = 500;
/** Beyond the bound, for what else a busy machine does. */
const SLACK_MS = 10_000;
const FILES: readonly FileIdentity[] = [7n, 8n, 263n].map((ino) => ({ device: 1n, ino }));
/** Shares a bucket of the gate with the first file, and is held by the honest client alone. */
const WITNESSED: FileIdentity = { device: 1n, ino: 7n + 256n * 2n };
const MAX_GROWN_MIB = 256;
const MAX_FAILURES = 20;

/** Text that is no message, or one that is too much of something. */
const HOSTILE: readonly ((random: Random) => string | Buffer)[] = [
  () => "\n",
  () => "null\n",
  () => "{}\n[]\n",
  () => '{"hold":1',
  () => '{"hold":1}{"hold":2}\n',
  () => '{"hold":9007199254740993,"device":"1","ino":"7"}\n',
  () => '{"hold":1e308,"device":"1","ino":"7"}\n',
  () => '{"hold":-1,"device":"1","ino":"7"}\n',
  () => '{"hold":1,"device":"1","ino":"18446744073709551616"}\n',
  () => '{"hold":1,"device":"1","ino":7}\n',
  () => '{"__proto__":{"hold":1,"device":"1","ino":"7"}}\n',
  () => '{"ack":"1"}\n{"ack":null}\n',
  () => '{"constructor":{"prototype":1},"release":[1]}\n',
  () => `${"[".repeat(60_000)}\n`,
  () => `${"[".repeat(30_000)}${"]".repeat(30_000)}\n`,
  () => `{"hold":1,"device":"${"1".repeat(50_000)}","ino":"7"}\n`,
  () => "x".repeat(70_000),
  () => "\0".repeat(100),
  () => "\n".repeat(50_000),
  () => Buffer.from([0xff, 0xfe, 0x22, 0xc3, 0x28, 0x0a]),
  () => Buffer.from([0xe2, 0x82]),
  (random) => Buffer.from(Array.from({ length: 200 }, () => random.below(256))),
];

/** What a client that knows the protocol might say, small ids that are often ones in use. */
function plausible(random: Random): string {
  const id = 1 + random.below(8);
  switch (random.below(5)) {
    case 0:
    case 1: {
      const { device, ino } = random.pick(FILES);
      return line({ hold: 1 + random.below(40), device: String(device), ino: String(ino) });
    }
    case 2:
      return line({ ack: id });
    case 3:
      return line({ release: 1 + random.below(40) });
    default:
      return `  {"release": ${id}, "extra": [1, {"hold": 2}]}\r\n`;
  }
}

type Counts = { granted: number; refused: number; recalls: number; closed: number };

class HostileClient {
  readonly #socket: Socket;
  readonly #lines = new LineReader<ToClient>();
  readonly #pieces: Buffer[] = [];
  readonly #acknowledges: boolean;
  readonly closed: Promise<void>;

  constructor(path: string, random: Random, counts: Counts) {
    this.#socket = connect(path);
    this.#acknowledges = random.below(2) === 0;
    this.closed = new Promise((done) => this.#socket.once("close", () => done()));
    this.#socket.on("error", () => {});
    if (random.below(6) === 0) return;
    this.#socket.on("data", (bytes) => {
      for (const message of this.#lines.feed(bytes)) {
        if ("granted" in message) counts.granted += 1;
        else if ("refused" in message) counts.refused += 1;
        else if ("closed" in message) counts.closed += 1;
        else if ("recall" in message) {
          counts.recalls += 1;
          if (this.#acknowledges) this.#socket.write(line({ ack: message.recall }));
        }
      }
    });
  }

  get isOver(): boolean {
    return this.#socket.destroyed;
  }

  /** Keeps a message for `flush`, in pieces that are cut anywhere. */
  say(random: Random): void {
    const isHostile = random.below(40) === 0;
    let rest = Buffer.from(isHostile ? random.pick(HOSTILE)(random) : plausible(random));
    while (rest.length > 0) {
      const cut = random.below(3) > 0 ? rest.length : 1 + random.below(rest.length);
      this.#pieces.push(rest.subarray(0, cut));
      rest = rest.subarray(cut);
    }
  }

  /** Sends one piece: those of other clients arrive between two of this one. */
  flush(): boolean {
    const piece = this.#pieces.shift();
    if (piece !== undefined && !this.isOver) this.#socket.write(piece);
    return this.#pieces.length > 0 && !this.isOver;
  }

  /** With what it has yet to send, or without. */
  vanish(random: Random): void {
    if (random.below(4) === 0) this.#socket.end();
    this.#socket.destroy();
  }
}

/** Holds a file of its own throughout, and acknowledges at once. */
class Witness {
  readonly #socket: Socket;
  readonly #lines = new LineReader<ToClient>();
  readonly granted: Promise<void>;
  acknowledged = 0;
  settled = 0;
  /** Why it was cut off, or null. */
  lost: string | null = null;

  constructor(path: string) {
    this.#socket = connect(path);
    let granted = (): void => {};
    this.granted = new Promise((done) => {
      granted = done;
    });
    this.#socket.on("error", () => {});
    this.#socket.on("close", () => {
      this.lost ??= "closed";
    });
    this.#socket.on("data", (bytes) => {
      for (const message of this.#lines.feed(bytes)) {
        if ("granted" in message) granted();
        else if ("closed" in message) this.lost = message.closed;
        else if ("settle" in message) this.settled += 1;
        else if ("recall" in message) {
          this.acknowledged += 1;
          this.#socket.write(line({ ack: message.recall }));
        }
      }
    });
    const { device, ino } = WITNESSED;
    this.#socket.write(line({ hold: 1, device: String(device), ino: String(ino) }));
  }

  end(): void {
    this.#socket.destroy();
  }
}

/** Waits until it holds, or says that it does not. */
async function within(ms: number, holds: () => boolean): Promise<boolean> {
  const deadline = performance.now() + ms;
  while (!holds()) {
    if (performance.now() > deadline) return false;
    await sleep(1);
  }
  return true;
}

const descriptors = (): number => readdirSync("/proc/self/fd").length;

/** One server's life, with its clients. */
class Life {
  readonly #random: Random;
  readonly #path: string;
  readonly #memory = gateMemory();
  readonly #book = new LeaseBook({ boundMs: BOUND_MS });
  readonly #keeper = new GateKeeper(this.#memory, this.#book);
  readonly #gate = new CrossThreadGate(this.#memory, (message) => this.#keeper.receive(message));
  readonly #fail: (what: string) => void;
  readonly counts: Counts;
  readonly #clients: HostileClient[] = [];
  readonly #truncations: Promise<void>[] = [];
  connections = 0;
  longestMs = 0;

  constructor(path: string, random: Random, counts: Counts, fail: (what: string) => void) {
    this.#path = path;
    this.#random = random;
    this.counts = counts;
    this.#fail = fail;
    this.#book.onChange = (file, change) => this.#keeper.heldChanged(file, change);
  }

  get truncations(): number {
    return this.#truncations.length;
  }

  async run(messages: number): Promise<void> {
    const beforeGrant = () => this.#keeper.beforeGrant();
    const server = await serveLeases(this.#book, this.#path, { beforeGrant, limits: LIMITS });
    try {
      const base = descriptors();
      const witness = new Witness(this.#path);
      await witness.granted;
      if (this.#random.below(FLOOD_EACH) === 0) await this.#flood();
      for (let sent = 0; sent < messages; sent += 1) await this.#step(witness);
      await this.#end(witness);
      if (!(await within(SLACK_MS, () => descriptors() <= base))) this.#fail("a connection stays");
      await this.#allCanBeHadAgain();
    } finally {
      server.close();
    }
  }

  #connect(): HostileClient {
    this.connections += 1;
    const client = new HostileClient(this.#path, this.#random, this.counts);
    this.#clients.push(client);
    return client;
  }

  /** As many at once as the machine takes; each says something, and is gone. */
  async #flood(): Promise<void> {
    const all = Array.from({ length: FLOOD }, () => {
      const client = new HostileClient(this.#path, this.#random, this.counts);
      client.say(this.#random);
      return client;
    });
    this.connections += FLOOD;
    for (const client of all) client.flush();
    await nextTurn();
    for (const client of all) client.vanish(this.#random);
    await Promise.all(all.map(({ closed }) => closed));
  }

  async #step(witness: Witness): Promise<void> {
    const random = this.#random;
    const live = this.#clients.filter(({ isOver }) => !isOver);
    const client =
      live.length < LIMITS.clients + 3 && random.below(6) === 0
        ? this.#connect()
        : (live[0] ?? this.#connect());
    const speaker = live.length > 0 ? random.pick(live) : client;
    speaker.say(random);
    if (random.below(25) === 0) this.#truncations.push(this.#truncate(witness));
    if (random.below(60) === 0) speaker.vanish(random);
    if (random.below(4) === 0) {
      let more = true;
      while (more) {
        more = this.#clients.map((each) => each.flush()).includes(true);
        if (random.below(3) === 0) await nextTurn();
      }
    }
    if (random.below(200) === 0) await sleep(random.below(BOUND_MS));
  }

  /** A truncation through the gate, as GatedFileSystem asks. */
  async #truncate(witness: Witness): Promise<void> {
    const isWitnessed = this.#random.below(4) === 0;
    const file = isWitnessed ? WITNESSED : this.#random.pick(FILES);
    const begun = performance.now();
    const { acknowledged, settled } = witness;
    const ticket = this.#gate.ask(file, 0n);
    const isOpen = await within(BOUND_MS + SLACK_MS, () => this.#gate.isOpen(ticket));
    this.longestMs = Math.max(this.longestMs, performance.now() - begun);
    if (!isOpen) this.#fail("a truncation does not get its turn");
    if (isWitnessed && witness.acknowledged === acknowledged) this.#fail("a truncation was not recalled");
    this.#gate.done(ticket, 0n);
    // Where several overlap, the last one settles.
    if (isWitnessed && !(await within(SLACK_MS, () => witness.settled > settled))) {
      this.#fail(`a holder was not settled (${witness.lost ?? "connected"})`);
    }
  }

  async #end(witness: Witness): Promise<void> {
    await Promise.all(this.#truncations);
    if (witness.lost !== null) this.#fail(`an honest client was cut off: ${witness.lost}`);
    for (const client of this.#clients) client.vanish(this.#random);
    await Promise.all(this.#clients.map(({ closed }) => closed));
    const areFree = await within(SLACK_MS, () => !FILES.some((file) => this.#book.isHeld(file)));
    if (!areFree) this.#fail("a lease outlives its client");
    if (!this.#gate.isHeld(WITNESSED)) this.#fail("an honest client has lost its lease");
    witness.end();
    if (!(await within(SLACK_MS, () => !this.#gate.isHeld(WITNESSED)))) this.#fail("a bucket stays held");
    const timer = sleep(SLACK_MS, "late" as const, { ref: false });
    if ((await Promise.race([this.#keeper.beforeGrant(), timer])) === "late") {
      this.#fail("a truncation stays in progress");
    }
  }

  /** Nothing of what was taken is still counted. */
  async #allCanBeHadAgain(): Promise<void> {
    const counts: Counts = { granted: 0, refused: 0, recalls: 0, closed: 0 };
    const sockets = Array.from({ length: LIMITS.holds / LIMITS.holdsPerClient + 1 }, () => {
      const socket = connect(this.#path);
      const lines = new LineReader<ToClient>();
      socket.on("error", () => {});
      socket.on("data", (bytes) => {
        for (const message of lines.feed(bytes)) {
          if ("granted" in message) counts.granted += 1;
          else if ("refused" in message) counts.refused += 1;
          else counts.closed += 1;
        }
      });
      for (let hold = 1; hold <= LIMITS.holdsPerClient; hold += 1) {
        socket.write(line({ hold, device: "1", ino: "99" }));
      }
      return socket;
    });
    const wanted = sockets.length * LIMITS.holdsPerClient;
    await within(SLACK_MS, () => counts.granted + counts.refused + counts.closed >= wanted);
    const { granted, refused, closed } = counts;
    if (granted !== LIMITS.holds || refused !== wanted - LIMITS.holds || closed > 0) {
      this.#fail(`of ${LIMITS.holds} leases ${granted} can be had, ${refused} refused, ${closed} closed`);
    }
    for (const socket of sockets) socket.destroy();
    if (!(await within(SLACK_MS, () => !this.#book.isHeld({ device: 1n, ino: 99n })))) {
      this.#fail("a lease outlives its client");
    }
  }
}

/** Sends `messages` messages of hostile clients to servers that live for some hundred each. */
export async function fuzzLeases({ path, seed, messages }: LeaseFuzzOptions): Promise<LeaseFuzzFigures> {
  const random = new Random(seed);
  const counts: Counts = { granted: 0, refused: 0, recalls: 0, closed: 0 };
  const failures: string[] = [];
  const totals = { connections: 0, truncations: 0, longestTruncationMs: 0 };
  const memoryAtStart = process.memoryUsage().rss;
  let lives = 0;
  for (let sent = 0; sent < messages && failures.length < MAX_FAILURES; sent += LIFE_MESSAGES) {
    const at = `seed ${seed}, life ${lives}`;
    const life = new Life(path, random, counts, (what) => failures.push(`${at}: ${what}`));
    await life.run(Math.min(LIFE_MESSAGES, messages - sent));
    totals.connections += life.connections;
    totals.truncations += life.truncations;
    totals.longestTruncationMs = Math.max(totals.longestTruncationMs, Math.round(life.longestMs));
    lives += 1;
  }
  const grownMiB = Math.round((process.memoryUsage().rss - memoryAtStart) / 2 ** 20);
  if (grownMiB > MAX_GROWN_MIB) failures.push(`seed ${seed}: memory has grown by ${grownMiB} MiB`);
  return { messages, ...totals, ...counts, defects: 0, grownMiB, failures };
}
