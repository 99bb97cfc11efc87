/**
 * The main socket: what each message of the front-end does to the device (QEMU, docs/interop/vhost-user.rst).
 *
 * A message is answered, acknowledged or refused; one that breaks the protocol is a ProtocolFault, with which the connection
 * ends. Descriptors that come with a message belong to it: what is not kept is closed, whatever happens. Waits for the
 * serving threads only where memory or a ring is taken from them. Not here: the socket (control-thread.ts), requests (worker.ts).
 */
import { files, isUnixStream, replaceDescriptor, signalEventfd } from "../../../../sys/src/index.ts";
import { MAX_QUEUE_SIZE, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_VERSION_1 } from "../virtio/queue.ts";
import { closeAll, type GuestRegions, MemoryFault } from "./memory.ts";
import {
  CONFIG_HEAD_BYTES,
  decodeRegion,
  decodeTable,
  encodeShmemConfig,
  MAX_CONFIG_BYTES,
  PROTOCOL_FEATURE,
  ProtocolFault,
  type RequestName,
  requestName,
  u64Payload,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VRING_INDEX_MASK,
  VRING_NO_FD,
} from "./protocol.ts";
import { type DeviceState, MAX_QUEUES, MAX_REGIONS, type SharedRing } from "./state.ts";

export type Message = {
  readonly request: number;
  readonly needsReply: boolean;
  readonly payload: Uint8Array;
  readonly fds: readonly number[];
};

/** What becomes of a message. */
type Outcome =
  | { readonly kind: "answer"; readonly payload: Uint8Array }
  | { readonly kind: "done" }
  | { readonly kind: "refused"; readonly reason: string };

const DONE: Outcome = { kind: "done" };
const refused = (reason: string): Outcome => ({ kind: "refused", reason });
const answer = (payload: Uint8Array): Outcome => ({ kind: "answer", payload });

/** What a device of this kind is, and who hears of what the front-end does. */
export type ControlOptions = {
  readonly state: DeviceState;
  readonly regions: GuestRegions;
  /** The device's configuration space; null: the VMM's own, and not offered. QEMU's vhost-user-fs warns of one. */
  readonly config: Uint8Array | null;
  /** Sizes of the shared memory regions by id; none: no window. */
  readonly sharedMemory: readonly bigint[];
  /** Where the threads wait: for kicks, and for `wake`. */
  readonly kicks: {
    add(fd: number, queue: number): number;
    remove(fd: number): void;
    /** Whether a descriptor that was not added can be waited for. */
    accepts(fd: number): boolean;
  };
  readonly wakeFd: number;
  /** Does `work` while no thread serves; throws if one does not come back. */
  readonly alone: <T>(work: () => T) => T;
  /** The channel for requests of this side. It is the callee's from then on. */
  readonly onChannel: (fd: number) => void;
  readonly log: (line: string) => void;
};

type Queue = {
  size: number;
  addresses: { readonly descriptors: bigint; readonly available: bigint; readonly used: bigint } | null;
  base: number;
  /** null: none came; -1: the front-end has none to give. */
  kickFd: number | null;
  /** Kept for the life of the device: what they lead to is replaced in one step. */
  readonly callFd: number;
  readonly errorFd: number;
  isEnabled: boolean;
  ring: SharedRing | null;
};

export class Control {
  readonly #options: ControlOptions;
  readonly #queues: Queue[] = [];
  #features = 0n;
  #protocolFeatures = 0n;

  constructor(options: ControlOptions) {
    this.#options = options;
    for (let i = 0; i < MAX_QUEUES; i += 1) {
      this.#queues.push({
        size: 0,
        addresses: null,
        base: 0,
        kickFd: null,
        callFd: nowhere(),
        errorFd: nowhere(),
        isEnabled: false,
        ring: null,
      });
    }
  }

  /** Where the interrupts of each queue go. */
  get callFds(): readonly number[] {
    return this.#queues.map(({ callFd }) => callFd);
  }

  get errorFds(): readonly number[] {
    return this.#queues.map(({ errorFd }) => errorFd);
  }

  get #offered(): bigint {
    return VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VHOST_USER_F_PROTOCOL_FEATURES;
  }

  get #offeredProtocol(): bigint {
    const { MQ, REPLY_ACK, BACKEND_REQ, CONFIG, CONFIGURE_MEM_SLOTS, SHMEM_MAP } = PROTOCOL_FEATURE;
    const base = MQ | REPLY_ACK | CONFIGURE_MEM_SLOTS | (this.#options.config === null ? 0n : CONFIG);
    return this.#options.sharedMemory.length === 0 ? base : base | BACKEND_REQ | SHMEM_MAP;
  }

  /** The payload to send back, or null. Throws a ProtocolFault. */
  handle(message: Message): Uint8Array | null {
    const kept = new Set<number>();
    try {
      const outcome = this.#outcome(message, kept);
      return this.#answered(message, outcome);
    } finally {
      closeAll(message.fds.filter((fd) => !kept.has(fd)));
    }
  }

  /** The front-end is gone: nothing of it is kept. While no thread serves. */
  close(): void {
    for (const [index, queue] of this.#queues.entries()) {
      this.#options.state.revoke(index);
      queue.ring = null;
      this.#closeKick(queue);
    }
    this.#publish();
    this.#options.regions.removeAll();
    for (const { callFd, errorFd } of this.#queues) closeAll([callFd, errorFd]);
  }

  #answered({ request, needsReply }: Message, outcome: Outcome): Uint8Array | null {
    const acknowledges = needsReply && (this.#protocolFeatures & PROTOCOL_FEATURE.REPLY_ACK) !== 0n;
    const name = requestName(request) ?? `request ${request}`;
    switch (outcome.kind) {
      case "answer":
        return outcome.payload;
      case "done":
        return acknowledges ? u64Payload(0n) : null;
      case "refused":
        if (!acknowledges) throw new ProtocolFault(`${name}: ${outcome.reason}`);
        this.#options.log(`refused ${name}: ${outcome.reason}`);
        return u64Payload(1n);
      default:
        return outcome satisfies never;
    }
  }

  #outcome(message: Message, kept: Set<number>): Outcome {
    const name = requestName(message.request);
    if (name === null) return refused("is not known");
    try {
      return this.#act(name, message, kept);
    } catch (error) {
      if (error instanceof MemoryFault) return refused(error.message);
      throw error;
    }
  }

  #act(name: RequestName, message: Message, kept: Set<number>): Outcome {
    const { payload, fds } = message;
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    switch (name) {
      case "GET_FEATURES":
        return answer(u64Payload(this.#offered));
      case "GET_PROTOCOL_FEATURES":
        return answer(u64Payload(this.#offeredProtocol));
      case "GET_QUEUE_NUM":
        return answer(u64Payload(BigInt(MAX_QUEUES)));
      case "GET_MAX_MEM_SLOTS":
        return answer(u64Payload(BigInt(MAX_REGIONS)));
      case "GET_SHMEM_CONFIG":
        return answer(encodeShmemConfig(this.#options.sharedMemory));
      case "GET_CONFIG":
        return this.#getConfig(payload, view);
      case "SET_FEATURES":
        return this.#setFeatures(sized(view, 8).getBigUint64(0, true));
      case "SET_PROTOCOL_FEATURES":
        return this.#setProtocolFeatures(sized(view, 8).getBigUint64(0, true));
      case "SET_OWNER":
        return DONE;
      case "RESET_OWNER":
        this.#stopAll();
        return DONE;
      case "SET_CONFIG":
        // Read-only for the driver (virtio 1.2, 5.11.4).
        return DONE;
      case "SET_MEM_TABLE":
        return this.#setTable(view, fds);
      case "ADD_MEM_REG":
        return this.#addRegion(view, fds);
      case "REM_MEM_REG":
        return this.#removeRegion(view);
      case "SET_VRING_NUM":
      case "SET_VRING_BASE":
      case "SET_VRING_ENABLE":
      case "SET_VRING_ADDR":
      case "GET_VRING_BASE":
        return this.#ring(name, view);
      case "SET_VRING_KICK":
      case "SET_VRING_CALL":
      case "SET_VRING_ERR":
        return this.#descriptor(name, view, { fds, kept });
      case "SET_BACKEND_REQ_FD":
        return this.#channel(fds, kept);
      case "SET_LOG_BASE":
      case "SET_LOG_FD":
      case "SET_DEVICE_STATE_FD":
      case "CHECK_DEVICE_STATE":
        return refused("migration is not offered: this server's state does not leave it");
      case "GET_INFLIGHT_FD":
      case "SET_INFLIGHT_FD":
      case "RESET_DEVICE":
      case "SET_STATUS":
      case "GET_STATUS":
        return refused("was not offered");
      default:
        return name satisfies never;
    }
  }

  #setFeatures(features: bigint): Outcome {
    const unknown = features & ~this.#offered;
    if (unknown !== 0n) return refused(`features 0x${unknown.toString(16)} were not offered`);
    this.#features = features;
    return DONE;
  }

  #setProtocolFeatures(features: bigint): Outcome {
    const unknown = features & ~this.#offeredProtocol;
    if (unknown !== 0n) return refused(`protocol features 0x${unknown.toString(16)} were not offered`);
    this.#protocolFeatures = features;
    return DONE;
  }

  /** The reply has the request's head, and content where the range is one of ours; none says that it is not. */
  #getConfig(payload: Uint8Array, view: DataView): Outcome {
    if (payload.length < CONFIG_HEAD_BYTES) throw new ProtocolFault(`GET_CONFIG of ${payload.length} bytes`);
    const [offset, size] = [view.getUint32(0, true), view.getUint32(4, true)];
    const { config } = this.#options;
    if (config === null || size > MAX_CONFIG_BYTES || offset > MAX_CONFIG_BYTES)
      return answer(new Uint8Array(0));
    const reply = new Uint8Array(CONFIG_HEAD_BYTES + size);
    reply.set(payload.subarray(0, CONFIG_HEAD_BYTES));
    reply.set(config.subarray(offset, offset + size), CONFIG_HEAD_BYTES);
    return answer(reply);
  }

  #setTable(view: DataView, fds: readonly number[]): Outcome {
    const table = decodeTable(view);
    if (table === null) throw new ProtocolFault(`SET_MEM_TABLE of ${view.byteLength} bytes`);
    if (fds.length !== table.length) {
      throw new ProtocolFault(`SET_MEM_TABLE of ${table.length} regions with ${fds.length} descriptors`);
    }
    const { alone, regions } = this.#options;
    return alone(() => {
      regions.removeAll();
      this.#revokeAll();
      try {
        regions.addAll(table, fds);
      } catch (error) {
        regions.removeAll();
        throw error;
      } finally {
        this.#restartAll();
      }
      return DONE;
    });
  }

  #addRegion(view: DataView, fds: readonly number[]): Outcome {
    const region = decodeRegion(view);
    const [fd, ...more] = fds;
    // Of a postcopy, in which the front-end asks for addresses back, it would come with none.
    if (region === null || fd === undefined || more.length > 0) {
      throw new ProtocolFault(`ADD_MEM_REG of ${view.byteLength} bytes with ${fds.length} descriptors`);
    }
    this.#options.regions.add(region, fd);
    this.#publish();
    return DONE;
  }

  #removeRegion(view: DataView): Outcome {
    const region = decodeRegion(view);
    if (region === null) throw new ProtocolFault(`REM_MEM_REG of ${view.byteLength} bytes`);
    const { alone, regions } = this.#options;
    switch (regions.kindOf(region)) {
      case "ram":
        alone(() => {
          regions.remove(region);
          this.#revokeAll();
          this.#restartAll();
        });
        return DONE;
      case "window":
        regions.remove(region);
        this.#publish();
        return DONE;
      case null:
        return refused(`there is no region at 0x${region.gpa.toString(16)} of ${region.lengthBytes} bytes`);
    }
  }

  #queue(index: number): Queue {
    const queue = this.#queues[index];
    if (queue === undefined) throw new ProtocolFault(`queue ${index} of ${MAX_QUEUES}`);
    return queue;
  }

  #ring(
    name: "SET_VRING_NUM" | "SET_VRING_BASE" | "SET_VRING_ENABLE" | "SET_VRING_ADDR" | "GET_VRING_BASE",
    view: DataView,
  ): Outcome {
    sized(view, name === "SET_VRING_ADDR" ? 40 : 8);
    const [index, number] = [view.getUint32(0, true), view.getUint32(4, true)];
    const queue = this.#queue(index);
    switch (name) {
      case "SET_VRING_NUM":
        if (number < 1 || number > MAX_QUEUE_SIZE || (number & (number - 1)) !== 0) {
          return refused(`${number} entries: expected a power of two up to ${MAX_QUEUE_SIZE}`);
        }
        queue.size = number;
        return DONE;
      case "SET_VRING_BASE":
        queue.base = number & 0xffff;
        return DONE;
      case "SET_VRING_ADDR":
        // The flag is VHOST_VRING_F_LOG.
        if (number !== 0) return refused("logging is not offered: no migration");
        queue.addresses = {
          descriptors: view.getBigUint64(8, true),
          used: view.getBigUint64(16, true),
          available: view.getBigUint64(24, true),
        };
        return queue.ring === null ? DONE : this.#restarted(index, queue);
      case "SET_VRING_ENABLE":
        queue.isEnabled = number === 1;
        this.#publish();
        return DONE;
      case "GET_VRING_BASE":
        return this.#stopped(index, queue);
    }
  }

  /** A ring starts with its kick, and stops with GET_VRING_BASE. */
  #started(index: number, queue: Queue): Outcome {
    if ((this.#features & VIRTIO_F_VERSION_1) === 0n) return refused("a driver without VIRTIO_F_VERSION_1");
    const ring = this.#ringOf(index, queue);
    if (typeof ring === "string") return refused(ring);
    const { regions, state } = this.#options;
    const position = state.position(index);
    position.next = queue.base;
    position.used = regions.word(ring.used + 2n);
    queue.ring = ring;
    state.isBroken = false;
    this.#publish();
    return DONE;
  }

  /** Its place in the guest's memory, or why there is none. */
  #ringOf(index: number, { size, addresses }: Queue): SharedRing | string {
    if (size === 0 || addresses === null) return `queue ${index} has no size or no addresses yet`;
    const { regions, state } = this.#options;
    const [descriptors, available, used] = [addresses.descriptors, addresses.available, addresses.used].map(
      (address) => regions.guestAddress(address),
    );
    if (typeof descriptors !== "bigint" || typeof available !== "bigint" || typeof used !== "bigint") {
      return `a ring of queue ${index} is not in the guest's RAM, which no file is that others can make shorter`;
    }
    const indirect = (this.#features & VIRTIO_F_INDIRECT_DESC) !== 0n;
    return { index, size, descriptors, available, used, indirect, generation: state.generation(index) };
  }

  #restarted(index: number, queue: Queue): Outcome {
    return this.#options.alone(() => {
      this.#options.state.revoke(index);
      const ring = this.#ringOf(index, queue);
      queue.ring = typeof ring === "string" ? null : ring;
      this.#publish();
      return typeof ring === "string" ? refused(ring) : DONE;
    });
  }

  #stopped(index: number, queue: Queue): Outcome {
    if (queue.ring !== null) this.#options.alone(() => this.#stop(index, queue));
    const view = new DataView(new ArrayBuffer(8));
    view.setUint32(0, index, true);
    view.setUint32(4, queue.base, true);
    return answer(new Uint8Array(view.buffer));
  }

  #stop(index: number, queue: Queue): void {
    const { state } = this.#options;
    if (queue.ring !== null) queue.base = state.position(index).next;
    queue.ring = null;
    state.revoke(index);
    this.#closeKick(queue);
    this.#publish();
  }

  #stopAll(): void {
    this.#options.alone(() => {
      for (const [index, queue] of this.#queues.entries()) this.#stop(index, queue);
    });
  }

  #revokeAll(): void {
    for (const index of this.#queues.keys()) this.#options.state.revoke(index);
  }

  /** After a change of memory: rings may lie elsewhere now, or nowhere. */
  #restartAll(): void {
    for (const [index, queue] of this.#queues.entries()) {
      if (queue.ring === null) continue;
      const ring = this.#ringOf(index, queue);
      queue.ring = typeof ring === "string" ? null : ring;
    }
    this.#publish();
  }

  #descriptor(
    name: "SET_VRING_KICK" | "SET_VRING_CALL" | "SET_VRING_ERR",
    view: DataView,
    { fds, kept }: { readonly fds: readonly number[]; readonly kept: Set<number> },
  ): Outcome {
    const word = sized(view, 8).getBigUint64(0, true);
    const hasFd = (word & VRING_NO_FD) === 0n;
    const [fd] = fds;
    if (fds.length !== (hasFd ? 1 : 0)) throw new ProtocolFault(`${name} with ${fds.length} descriptors`);
    const index = Number(word & VRING_INDEX_MASK);
    const queue = this.#queue(index);
    switch (name) {
      case "SET_VRING_CALL":
        return this.#redirect(queue.callFd, fd);
      case "SET_VRING_ERR":
        return this.#redirect(queue.errorFd, fd);
      case "SET_VRING_KICK":
        // Without one the ring would have to be looked at again and again.
        if (fd === undefined) return refused("a queue without a kick is not offered");
        return this.#kick(index, queue, { fd, kept });
    }
  }

  #kick(
    index: number,
    queue: Queue,
    { fd, kept }: { readonly fd: number; readonly kept: Set<number> },
  ): Outcome {
    this.#closeKick(queue);
    // A counter that its writer has made to wait would stop nothing here: it is never read.
    const result = this.#options.kicks.add(fd, index);
    if (result < 0) return refused("its descriptor cannot be waited for");
    kept.add(fd);
    queue.kickFd = fd;
    // A front-end that knows no protocol features does not enable queues, either.
    if ((this.#features & VHOST_USER_F_PROTOCOL_FEATURES) === 0n) queue.isEnabled = true;
    return queue.ring === null ? this.#started(index, queue) : DONE;
  }

  #redirect(stable: number, fd: number | undefined): Outcome {
    if (fd !== undefined) {
      // Eight bytes would be written into a file, at its position.
      if (!this.#options.kicks.accepts(fd)) return refused("nobody can wait for its descriptor");
      // An interrupt must not wait: a counter that is full wakes its reader anyway.
      files.setStatusFlags(fd, files.statusFlags(fd) | files.O_NONBLOCK);
      replaceDescriptor(fd, stable);
      return DONE;
    }
    const other = nowhere();
    replaceDescriptor(other, stable);
    files.close(other);
    return DONE;
  }

  #closeKick(queue: Queue): void {
    if (queue.kickFd === null) return;
    this.#options.kicks.remove(queue.kickFd);
    files.close(queue.kickFd);
    queue.kickFd = null;
  }

  #channel(fds: readonly number[], kept: Set<number>): Outcome {
    const [fd, ...more] = fds;
    if (fd === undefined || more.length > 0) {
      throw new ProtocolFault(`SET_BACKEND_REQ_FD with ${fds.length} descriptors`);
    }
    if ((this.#protocolFeatures & PROTOCOL_FEATURE.BACKEND_REQ) === 0n) return refused("was not agreed on");
    if (!isUnixStream(fd)) return refused("its descriptor is no stream socket of unix(7)");
    kept.add(fd);
    this.#options.onChannel(fd);
    return DONE;
  }

  #publish(): void {
    const { state, regions, wakeFd } = this.#options;
    const rings = this.#queues.flatMap(({ ring, isEnabled }) => (ring !== null && isEnabled ? [ring] : []));
    state.configure({ regions: regions.shared, rings });
    signalEventfd(wakeFd);
  }
}

/** A descriptor that takes what is written to it, and does nothing. */
function nowhere(): number {
  const fd = files.openat(files.AT_FDCWD, files.pathBytes("/dev/null"), files.O_RDWR | files.O_CLOEXEC);
  if (fd < 0) throw new Error("cannot open /dev/null");
  return fd;
}

function sized(view: DataView, bytes: number): DataView {
  if (view.byteLength !== bytes)
    throw new ProtocolFault(`a payload of ${view.byteLength} bytes, expected ${bytes}`);
  return view;
}
