/**
 * The messages of vhost-user: numbers, sizes and layouts (QEMU, docs/interop/vhost-user.rst). Little-endian, as the machines that
 * this server runs on. Not here: what a message does (control.ts, backend-channel.ts).
 */

/** Of the front-end (the VMM). */
export const REQUEST = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_LOG_BASE: 6,
  SET_LOG_FD: 7,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SET_BACKEND_REQ_FD: 21,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  GET_INFLIGHT_FD: 31,
  SET_INFLIGHT_FD: 32,
  RESET_DEVICE: 34,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
  SET_STATUS: 39,
  GET_STATUS: 40,
  SET_DEVICE_STATE_FD: 42,
  CHECK_DEVICE_STATE: 43,
  GET_SHMEM_CONFIG: 44,
} as const;

export type RequestName = keyof typeof REQUEST;

const nameByNumber = new Map<number, RequestName>(
  Object.entries(REQUEST).map(([name, number]) => [number, name as RequestName]),
);

export function requestName(number: number): RequestName | null {
  return nameByNumber.get(number) ?? null;
}

/** Of the back-end (this server), on the channel of SET_BACKEND_REQ_FD. */
export const BACKEND_REQUEST = { SHMEM_MAP: 9, SHMEM_UNMAP: 10 } as const;

/** Bit of the virtio features that says that there are protocol features. */
export const VHOST_USER_F_PROTOCOL_FEATURES: bigint = 1n << 30n;

export const PROTOCOL_FEATURE: Readonly<
  Record<"MQ" | "REPLY_ACK" | "BACKEND_REQ" | "CONFIG" | "CONFIGURE_MEM_SLOTS" | "SHMEM_MAP", bigint>
> = {
  MQ: 1n << 0n,
  REPLY_ACK: 1n << 3n,
  BACKEND_REQ: 1n << 5n,
  CONFIG: 1n << 9n,
  CONFIGURE_MEM_SLOTS: 1n << 15n,
  SHMEM_MAP: 1n << 22n,
};

export const HEADER_BYTES = 12;
const VERSION = 1;
const VERSION_MASK = 3;
const FLAG_REPLY = 4;
const FLAG_NEED_REPLY = 8;
/** Largest payload of a message: struct virtio's configuration space, or a table of 8 regions; ours is GET_SHMEM_CONFIG's. */
export const MAX_PAYLOAD_BYTES = 4096;
/** VHOST_MEMORY_BASELINE_NREGIONS: of SET_MEM_TABLE. */
export const MAX_TABLE_REGIONS = 8;
export const MAX_DESCRIPTORS = 8;
export const MAX_SHMEM_REGIONS = 256;
/** VHOST_USER_MAX_CONFIG_SIZE */
export const MAX_CONFIG_BYTES = 256;
export const CONFIG_HEAD_BYTES = 12;
/** Of the argument of SET_VRING_KICK and its like: queue, and that no descriptor comes. */
export const VRING_INDEX_MASK = 0xffn;
export const VRING_NO_FD: bigint = 1n << 8n;

export type Header = {
  readonly request: number;
  readonly needsReply: boolean;
  readonly payloadBytes: number;
};

/** A message that breaks the protocol. What follows it on the socket means nothing: the connection ends. */
export class ProtocolFault extends Error {
  override readonly name = "ProtocolFault";
}

/** Throws a ProtocolFault. */
export function decodeHeader(bytes: Uint8Array): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  const [request, flags, payloadBytes] = [
    view.getUint32(0, true),
    view.getUint32(4, true),
    view.getUint32(8, true),
  ];
  if ((flags & VERSION_MASK) !== VERSION) {
    throw new ProtocolFault(`a message of protocol version ${flags & VERSION_MASK}, expected ${VERSION}`);
  }
  if ((flags & FLAG_REPLY) !== 0)
    throw new ProtocolFault(`a reply (request ${request}) that was not asked for`);
  if (payloadBytes > MAX_PAYLOAD_BYTES) {
    throw new ProtocolFault(`request ${request} of ${payloadBytes} bytes, above ${MAX_PAYLOAD_BYTES}`);
  }
  return { request, needsReply: (flags & FLAG_NEED_REPLY) !== 0, payloadBytes };
}

function message(request: number, flags: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, request, true);
  view.setUint32(4, VERSION | flags, true);
  view.setUint32(8, payload.length, true);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

export function encodeReply(request: number, payload: Uint8Array): Uint8Array {
  return message(request, FLAG_REPLY, payload);
}

/** A request that must be answered, if only by its success. */
export function encodeRequest(
  request: number,
  payload: Uint8Array,
  needsReply: "needs reply" | "no reply",
): Uint8Array {
  return message(request, needsReply === "needs reply" ? FLAG_NEED_REPLY : 0, payload);
}

export function u64Payload(value: bigint): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, value, true);
  return new Uint8Array(view.buffer);
}

/** A region of the guest's memory, as a message describes it. */
export type RegionMessage = {
  readonly gpa: bigint;
  readonly lengthBytes: bigint;
  /** Where the front-end has mapped it: addresses of rings are of that kind. */
  readonly userAddress: bigint;
  /** Of its first byte in the descriptor that comes with it. */
  readonly fdOffset: bigint;
};

const REGION_BYTES = 32;
const TABLE_HEAD_BYTES = 8;

function regionAt(view: DataView, at: number): RegionMessage {
  return {
    gpa: view.getBigUint64(at, true),
    lengthBytes: view.getBigUint64(at + 8, true),
    userAddress: view.getBigUint64(at + 16, true),
    fdOffset: view.getBigUint64(at + 24, true),
  };
}

/** Of ADD_MEM_REG and REM_MEM_REG; null: not of that size. */
export function decodeRegion(payload: DataView): RegionMessage | null {
  return payload.byteLength === TABLE_HEAD_BYTES + REGION_BYTES ? regionAt(payload, TABLE_HEAD_BYTES) : null;
}

/** Of SET_MEM_TABLE; null: too many, or not of that size. */
export function decodeTable(payload: DataView): readonly RegionMessage[] | null {
  if (payload.byteLength < TABLE_HEAD_BYTES) return null;
  const count = payload.getUint32(0, true);
  if (count > MAX_TABLE_REGIONS || payload.byteLength !== TABLE_HEAD_BYTES + count * REGION_BYTES)
    return null;
  return Array.from({ length: count }, (_, i) => regionAt(payload, TABLE_HEAD_BYTES + i * REGION_BYTES));
}

/** struct VhostUserMMap: shmid, 7 bytes of padding, fd_offset, shm_offset, len, flags. */
export function encodeMapping(mapping: {
  readonly fdOffset: bigint;
  readonly windowOffset: bigint;
  readonly lengthBytes: bigint;
  readonly flags: bigint;
}): Uint8Array {
  const view = new DataView(new ArrayBuffer(40));
  view.setBigUint64(8, mapping.fdOffset, true);
  view.setBigUint64(16, mapping.windowOffset, true);
  view.setBigUint64(24, mapping.lengthBytes, true);
  view.setBigUint64(32, mapping.flags, true);
  return new Uint8Array(view.buffer);
}

/** The flag of a mapping that may be written. */
export const MAP_FLAG_WRITABLE = 1n;

/** Of GET_SHMEM_CONFIG: sizes by id. */
export function encodeShmemConfig(sizes: readonly bigint[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(8 + 8 * MAX_SHMEM_REGIONS));
  view.setUint32(0, sizes.filter((size) => size > 0n).length, true);
  for (const [id, size] of sizes.entries()) view.setBigUint64(8 + 8 * id, size, true);
  return new Uint8Array(view.buffer);
}
