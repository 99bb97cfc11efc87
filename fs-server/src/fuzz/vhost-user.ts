/**
 * Hostile VMMs and guests at `serve --socket-path`: malformed messages and descriptors of every kind, rings that break the rules
 * or change under the reader, buffers in a file that gets shorter meanwhile, a back-end's channel that answers nonsense; against
 * a server process, over its socket.
 *
 * Promises checked: a message is answered as its flags ask for, once, or the connection is closed; the server takes the next
 * front-end afterwards, whose guest can mount; no descriptor and no mapping of a front-end's memory outlives it; the
 * bytes around the guest's memory stay; SIGTERM ends it with 0; its memory is bounded. The same seed sends the same messages
 * up to where the time of an answer decides: which of two threads is first, and what a ring is when it is looked at.
 */
import { readdirSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { encodeRequest } from "../transport/memory/client.ts";
import {
  PROTOCOL_FEATURE,
  REQUEST,
  type RequestName,
  requestName,
} from "../transport/vhost-user/protocol.ts";
import { hostileMessage, Random } from "./generate.ts";
import { HostileRings, type RingPlace, WINDOW } from "./hostile-rings.ts";
import { type HostileMessage, HostileMessages, USER_ADDRESS } from "./vhost-messages.ts";
import { Closed, Descriptors, HOST_FILE_BYTES, type Reply, VhostPeer } from "./vhost-peer.ts";
import { FuzzedServer } from "./vhost-server.ts";

export type VhostFuzzFigures = {
  readonly messages: number;
  readonly connections: number;
  /** Connections that the server closed. */
  readonly closed: number;
  readonly answered: number;
  readonly refused: number;
  readonly chains: number;
  /** Guests that mounted after what came before. */
  readonly mounts: number;
  readonly longestMs: number;
  readonly grownMiB: number;
  readonly defects: number;
  /** Broken promises, each a sentence with the seed and the message's number. */
  readonly failures: readonly string[];
};

export type VhostFuzzOptions = {
  /** A folder that is served. */
  readonly source: string;
  readonly seed: number;
  readonly messages: number;
};

const MAX_FAILURES = 10;
const MAX_GROWN_MIB = 400;
const QUEUE_SIZE = 16;
const VIRTIO = 0x1_5000_0000n;
/** Looks at what is left in the server, in connections. */
const LOOK_EACH = 25;
const FALLOCATE = 43;
const GETATTR = 3;
const OPCODE_AT = 4;
const PING_FLAGS = 0x5000_0000;
const GET: ReadonlySet<number> = new Set(
  (Object.keys(REQUEST) as RequestName[])
    .filter((name) => name.startsWith("GET_"))
    .map((name) => REQUEST[name]),
);

const words = (...values: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
const u64 = (...values: readonly bigint[]): Uint8Array => new Uint8Array(BigUint64Array.from(values).buffer);

type Counts = {
  -readonly [K in "closed" | "answered" | "refused" | "chains" | "mounts" | "longestMs"]: number;
};

/** One connection of a front-end. */
class Life {
  readonly #peer: VhostPeer;
  readonly #random: Random;
  readonly #messages: HostileMessages;
  readonly #rings: HostileRings;
  readonly #places: RingPlace[] = [];
  readonly #counts: Counts;
  #acknowledges = false;
  #pings = 0;
  #unique = 2n;

  constructor(peer: VhostPeer, random: Random, counts: Counts) {
    this.#peer = peer;
    this.#random = random;
    this.#counts = counts;
    this.#messages = new HostileMessages(random, peer.places, FEATURES);
    this.#rings = new HostileRings(peer.regions, random);
  }

  /** Sends a message, and says what is wrong with what came of it; null: nothing. Throws a Closed. */
  exchange(message: HostileMessage): string | null {
    const begun = performance.now();
    const acknowledged = this.#acknowledges;
    this.#peer.send(message);
    // The rest of it never comes, or what comes next is a part of it.
    if (!message.isWhole) throw new Closed();
    const replies = this.#untilPing();
    this.#counts.longestMs = Math.max(this.#counts.longestMs, performance.now() - begun);
    const own = replies.filter(({ request }) => request === message.request);
    const name = requestName(message.request) ?? `request ${message.request}`;
    const isGet = GET.has(message.request);
    if (own.length !== replies.length) return `${name}: an answer to request ${replies[0]?.request}`;
    const [reply] = own;
    this.#note(message, reply);
    const expected = isGet || (acknowledged && message.needsReply) ? 1 : 0;
    // SET_PROTOCOL_FEATURES is acknowledged by what it agrees on itself; a GET that is refused, too.
    const isOwnRule = message.request === REQUEST.SET_PROTOCOL_FEATURES;
    if (own.length !== expected && !isOwnRule) return `${name}: ${own.length} answers, expected ${expected}`;
    return null;
  }

  #note({ request, bytes }: HostileMessage, reply: Reply | undefined): void {
    const isRefusal =
      reply?.payload.length === 8 && !GET.has(request) && reply.payload.readBigUInt64LE() !== 0n;
    if (reply !== undefined) this.#counts[isRefusal ? "refused" : "answered"] += 1;
    if (request !== REQUEST.SET_PROTOCOL_FEATURES || isRefusal) return;
    const features = Buffer.from(bytes).readBigUInt64LE(12);
    this.#acknowledges = (features & PROTOCOL_FEATURE.REPLY_ACK) !== 0n;
  }

  /** What comes before the answer to a message of ours that is known by its flags. */
  #untilPing(): readonly Reply[] {
    this.#pings += 1;
    const mark = PING_FLAGS + this.#pings;
    const ping = this.#messages.plain("GET_CONFIG", words(0, 4, mark, 0), [], "no reply");
    this.#peer.send({ ...ping, cut: 0 });
    const replies: Reply[] = [];
    for (;;) {
      const reply = this.#peer.receive();
      const isPing = reply.request === REQUEST.GET_CONFIG && reply.payload.length >= 12;
      if (isPing && reply.payload.readUInt32LE(8) === mark) return replies;
      replies.push(reply);
    }
  }

  ping(): string | null {
    return this.#untilPing().length === 0 ? null : "an answer without a request";
  }

  hostile(oneOf: number): string | null {
    return this.exchange(this.#messages.next(oneOf));
  }

  /** Many without a look at what is answered. */
  pipeline(count: number): void {
    for (let left = count; left > 0; left -= 1) this.#peer.send(this.#messages.next(200));
  }

  /** What QEMU says before the guest runs, and for a driver with two queues. */
  begin(manner: "hostile" | "plain"): string | null {
    const plain = (...[name, payload, descriptors]: Parameters<HostileMessages["plain"]>): string | null =>
      this.exchange(this.#messages.plain(name, payload, descriptors));
    const [first, ...more] = [
      plain("SET_PROTOCOL_FEATURES", u64(FEATURES)),
      plain("SET_BACKEND_REQ_FD", new Uint8Array(0), ["channel"]),
      plain("SET_FEATURES", u64(VIRTIO)),
      ...this.#peer.places.map(({ gpa, lengthBytes, fdOffset }) =>
        plain("ADD_MEM_REG", u64(0n, gpa, lengthBytes, USER_ADDRESS + gpa, fdOffset), ["memory"]),
      ),
    ].filter((wrong) => wrong !== null);
    return first ?? more[0] ?? this.#startQueues(manner);
  }

  #startQueues(manner: "hostile" | "plain"): string | null {
    for (const queue of [0, 1]) {
      const wrong = this.#startQueue(queue, manner);
      if (wrong !== null) return wrong;
    }
    return null;
  }

  #startQueue(queue: number, manner: "hostile" | "plain"): string | null {
    let place = this.#rings.place(queue, QUEUE_SIZE);
    const base = BigInt(queue) * 2048n;
    const plainPlace = {
      size: QUEUE_SIZE,
      descriptors: base,
      available: base + 512n,
      used: base + 1024n,
      index: 0,
    };
    if (manner === "plain") place = plainPlace;
    this.#places[queue] = place;
    this.#rings.clear(place);
    const addresses = [place.descriptors, place.used, place.available].map((gpa) =>
      BigInt.asUintN(64, USER_ADDRESS + gpa),
    );
    const said: readonly (readonly [RequestName, Uint8Array])[] = [
      ["SET_VRING_NUM", words(queue, place.size)],
      ["SET_VRING_BASE", words(queue, 0)],
      ["SET_VRING_ADDR", new Uint8Array(Buffer.concat([words(queue, 0), u64(...addresses, 0n)]))],
    ];
    for (const [name, payload] of said) {
      const wrong = this.exchange(this.#messages.plain(name, payload));
      if (wrong !== null) return wrong;
    }
    // As they are: the driver's side keeps them.
    for (const [name, fds] of [
      ["SET_VRING_CALL", this.#peer.calls],
      ["SET_VRING_KICK", this.#peer.kicks],
    ] as const) {
      const wrong = this.#give(name, queue, fds[queue] ?? -1);
      if (wrong !== null) return wrong;
    }
    return this.exchange(this.#messages.plain("SET_VRING_ENABLE", words(queue, 1)));
  }

  #give(name: "SET_VRING_CALL" | "SET_VRING_KICK", queue: number, fd: number): string | null {
    return this.exchange({ ...this.#messages.plain(name, u64(BigInt(queue))), own: fd });
  }

  /** Chains of a hostile driver, perhaps while it changes what the server reads. */
  chains(): void {
    const random = this.#random;
    const queue = random.below(2);
    const place = this.#places[queue];
    if (place === undefined || place.size === 0) return;
    for (let left = 1 + random.below(4); left > 0; left -= 1) {
      this.#unique += 2n;
      this.#rings.offer(place, harmless(hostileMessage(random, this.#unique)));
      this.#counts.chains += 1;
    }
    this.#peer.kick(queue);
    if (random.below(3) === 0) this.#peer.scribble(random.pick([10, 200, 3000]));
  }

  /** A region of the guest's memory that is a file of the host's, beside its RAM. */
  addHostFile(): string | null {
    const fd = this.#peer.cutHostFile(HOST_FILE_BYTES);
    const payload = u64(0n, WINDOW, HOST_FILE_BYTES, USER_ADDRESS + WINDOW, 0n);
    return this.exchange({ ...this.#messages.plain("ADD_MEM_REG", payload), own: fd });
  }

  /** It gets shorter, or long again, while chains are served that have buffers in it. */
  cutHostFile(): void {
    const pages = BigInt(this.#random.below(5));
    this.#peer.cutHostFile((HOST_FILE_BYTES / 4n) * pages);
  }

  /** A queue that is broken is served no more until then. */
  reset(manner: "hostile" | "plain"): string | null {
    for (const queue of [0, 1]) {
      const wrong = this.exchange(this.#messages.plain("GET_VRING_BASE", words(queue, 0), [], "no reply"));
      if (wrong !== null) return wrong;
    }
    return this.#startQueues(manner);
  }

  /** Whether a guest that is reset after all this can mount, and read a name. */
  mount(): string | null {
    this.#peer.isChannelHostile = false;
    const wrong = this.reset("plain");
    const place = this.#places[1];
    if (wrong !== null || place === undefined) return wrong;
    const args = { major: 7, minor: 38, max_readahead: 131_072, flags: 0x7fff_fffb, flags2: 9 };
    for (const message of [
      encodeRequest("INIT", 2n, { node: 0n, args }),
      encodeRequest("LOOKUP", 4n, { names: ["a"] }),
    ]) {
      this.#rings.offerPlain(place, message);
      this.#peer.kick(1);
      if (!this.#peer.until(() => this.#rings.usedIndex(place) === place.index)) {
        return "a guest that was reset cannot mount: its chain does not come back";
      }
    }
    this.#counts.mounts += 1;
    return null;
  }
}

const FEATURES: bigint = Object.values(PROTOCOL_FEATURE).reduce((all, feature) => all | feature, 0n);

/** Without what would fill a disk. */
function harmless(message: Uint8Array): Uint8Array {
  if (message.length < OPCODE_AT + 4) return message;
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  if (view.getUint32(OPCODE_AT, true) === FALLOCATE) view.setUint32(OPCODE_AT, GETATTR, true);
  return message;
}

class VhostFuzz {
  readonly #options: VhostFuzzOptions;
  readonly #random: Random;
  readonly #server: FuzzedServer;
  readonly #descriptors: Descriptors;
  readonly #counts: Counts = { closed: 0, answered: 0, refused: 0, chains: 0, mounts: 0, longestMs: 0 };
  readonly #failures: string[] = [];
  #messages = 0;
  #connections = 0;
  #base: { readonly descriptors: readonly string[]; readonly residentMiB: number } | null = null;

  constructor(options: VhostFuzzOptions, server: FuzzedServer) {
    this.#options = options;
    this.#server = server;
    this.#random = new Random(options.seed);
    this.#descriptors = new Descriptors(options.source, "/proc/self/exe");
  }

  async run(): Promise<VhostFuzzFigures> {
    const { messages, seed } = this.#options;
    for (let i = 0; i < 3; i += 1) await this.#life(0, "nobody");
    this.#look();
    while (this.#messages < messages && this.#failures.length < MAX_FAILURES && this.#server.end === null) {
      await this.#life(1 + this.#random.below(1000), this.#random.below(4) === 0 ? "guest" : "front-end");
      if (this.#connections % LOOK_EACH === 0) this.#look();
    }
    this.#look();
    this.#descriptors.close();
    const grownMiB =
      this.#server.end === null ? this.#server.residentMiB() - (this.#base?.residentMiB ?? 0) : 0;
    if (grownMiB > MAX_GROWN_MIB) this.#fail(`its memory has grown by ${grownMiB} MiB`);
    const defects = this.#server.defects();
    for (const defect of defects.slice(0, 3)) this.#fail(defect);
    const { longestMs, ...counts } = this.#counts;
    return {
      messages: this.#messages,
      connections: this.#connections,
      ...counts,
      longestMs: Math.round(longestMs),
      grownMiB,
      defects: defects.length,
      failures: this.#failures.map((text) => `seed ${seed}, ${text}`),
    };
  }

  #fail(what: string): void {
    this.#failures.push(`message ${this.#messages}, connection ${this.#connections}: ${what}`);
  }

  async #life(messages: number, who: "nobody" | "guest" | "front-end"): Promise<void> {
    this.#connections += 1;
    this.#connected((peer) => {
      const wrong = {
        nobody: () => this.#plainLife(peer),
        guest: () => this.#guestLife(peer, Math.ceil(messages / 8)),
        "front-end": () => this.#hostileLife(peer, messages),
      }[who]();
      if (wrong !== null) this.#fail(wrong);
    });
    // The server's end is an event.
    await nextTurn();
    if (this.#server.end !== null) {
      this.#fail(`the server has ended: ${this.#server.end}: ${this.#server.lastWords()}`);
    }
  }

  #connected(work: (peer: VhostPeer) => void): void {
    let peer: VhostPeer | null = null;
    try {
      peer = new VhostPeer(this.#server.socketPath, this.#descriptors, this.#random);
      work(peer);
      if (!peer.areGuardsIntact()) this.#fail("memory around the guest's has changed");
    } catch (error) {
      if (error instanceof Closed) this.#counts.closed += 1;
      else this.#fail(error instanceof Error ? error.message : String(error));
    } finally {
      peer?.close();
    }
  }

  #plainLife(peer: VhostPeer): string | null {
    const life = new Life(peer, this.#random, this.#counts);
    return life.begin("plain") ?? life.mount();
  }

  #hostileLife(peer: VhostPeer, messages: number): string | null {
    const random = this.#random;
    const life = new Life(peer, random, this.#counts);
    const oneOf = random.pick([4, 100, 2000]);
    peer.isChannelHostile = random.below(3) === 0;
    const hasBegun = random.below(5) > 0;
    let wrong = hasBegun ? life.begin("hostile") : null;
    for (let sent = 0; sent < messages && wrong === null; sent += 1) {
      if (hasBegun && random.below(3) === 0) life.chains();
      this.#messages += 1;
      wrong = life.hostile(oneOf);
    }
    if (wrong !== null || random.below(8) > 0) return wrong;
    const count = 1 + random.below(30);
    this.#messages += count;
    life.pipeline(count);
    return null;
  }

  /** The VMM keeps the rules, the guest does not. */
  #guestLife(peer: VhostPeer, rounds: number): string | null {
    const life = new Life(peer, this.#random, this.#counts);
    peer.isChannelHostile = this.#random.below(3) === 0;
    let wrong = life.begin("hostile") ?? life.addHostFile();
    for (let left = rounds; left > 0 && wrong === null; left -= 1) {
      life.chains();
      if (this.#random.below(2) === 0) life.cutHostFile();
      wrong = life.ping() ?? (this.#random.below(2) === 0 ? life.reset("hostile") : null);
    }
    return wrong ?? life.mount();
  }

  /** What is left of the front-ends that have come and gone; and the next one's guest can mount. */
  #look(): void {
    if (this.#server.end !== null) return;
    this.#connections += 1;
    const { closed } = this.#counts;
    this.#connected((peer) => {
      const life = new Life(peer, this.#random, this.#counts);
      const wrong = life.ping();
      if (wrong !== null) this.#fail(wrong);
      const mappings = this.#server.mappings();
      if (mappings > 0) this.#fail(`${mappings} mappings of memory whose front-end has left`);
      this.#compareDescriptors(peer);
      const unmounted = life.begin("plain") ?? life.mount();
      if (unmounted !== null) this.#fail(`the next front-end: ${unmounted}`);
    });
    if (this.#counts.closed > closed) this.#fail("a front-end with nothing wrong was closed");
  }

  #compareDescriptors(peer: VhostPeer): void {
    if (this.#base === null) {
      peer.until(() => this.#isQuiet());
      this.#base = { descriptors: this.#server.descriptors(), residentMiB: this.#server.residentMiB() };
      return;
    }
    const { descriptors } = this.#base;
    let now: readonly string[] = [];
    const isBack = peer.until(() => {
      now = this.#server.descriptors();
      return now.length === descriptors.length && now.every((name, i) => name === descriptors[i]);
    });
    if (!isBack) {
      const extra = now.filter((name) => !descriptors.includes(name));
      this.#fail(
        `${now.length} descriptors, ${descriptors.length} at the beginning; others: ${extra.slice(0, 5).join(", ")}`,
      );
    }
  }

  /** Its threads have begun: what they open is open. */
  #isQuiet(): boolean {
    const before = this.#server.descriptors().length;
    for (const end = performance.now() + 300; performance.now() < end; ) {
      if (this.#server.descriptors().length !== before) return false;
    }
    return true;
  }
}

/** Descriptors of this process. */
const ownDescriptors = (): number => readdirSync("/proc/self/fd").length;

/** Hostile front-ends, one after the other, at one server. */
export async function fuzzVhostUser(options: VhostFuzzOptions): Promise<VhostFuzzFigures> {
  const server = await FuzzedServer.start(options.source);
  const before = ownDescriptors();
  let figures: VhostFuzzFigures;
  let end: string;
  try {
    figures = await new VhostFuzz(options, server).run();
  } finally {
    end = await server.stop();
  }
  const failures = [...figures.failures];
  if (server.end !== null && end !== "exit code 0") failures.push(`seed ${options.seed}: SIGTERM: ${end}`);
  const left = ownDescriptors() - before;
  if (left > 0) failures.push(`seed ${options.seed}: ${left} descriptors of the front-ends' own stay`);
  return { ...figures, failures };
}
