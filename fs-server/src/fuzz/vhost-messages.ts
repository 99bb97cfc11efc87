/**
 * Messages of a hostile front-end, mostly right, with one thing wrong: sizes, flags, descriptors, regions that overlap, wrap or
 * are huge, requests that do not exist. Deterministic: the same random numbers give the same messages.
 */
import {
  HEADER_BYTES,
  MAX_PAYLOAD_BYTES,
  REQUEST,
  type RequestName,
} from "../transport/vhost-user/protocol.ts";
import type { Random } from "./generate.ts";

/** What a descriptor that comes with a message leads to. */
export const DESCRIPTORS = [
  "memory",
  "other memory",
  "small memory",
  "huge memory",
  "eventfd",
  "full eventfd",
  "channel",
  "pipe",
  "null device",
  "folder",
  "file to read",
] as const;
export type DescriptorKind = (typeof DESCRIPTORS)[number];

/** Where memory of the guest's lies, for it and in the file of "memory". */
export type Place = { readonly gpa: bigint; readonly lengthBytes: bigint; readonly fdOffset: bigint };

/** As ADD_MEM_REG and SET_MEM_TABLE have it. */
type Region = Place & { readonly userAddress: bigint };

/** Payload, descriptors, and which regions the payload names. */
type Content = readonly [
  payload: Uint8Array,
  descriptors: readonly DescriptorKind[],
  regions?: readonly Region[],
];

export type HostileMessage = {
  readonly request: number;
  readonly bytes: Uint8Array;
  /** Where it is cut in two; 0: sent at once. */
  readonly cut: number;
  readonly descriptors: readonly DescriptorKind[];
  /** One more, of the sender's own; left out: none. */
  readonly own?: number;
  /** Whether what is sent is one message, neither more nor less. */
  readonly isWhole: boolean;
  readonly needsReply: boolean;
};

/** Where the front-end has its memory. */
export const USER_ADDRESS = 0x7f00_0000_0000n;
const NEEDS_REPLY = 8;
const REPLY = 4;
const VERSION = 1;

const NASTY: readonly bigint[] = [
  0n,
  1n,
  4095n,
  4096n,
  2n ** 21n,
  2n ** 31n,
  2n ** 32n,
  2n ** 40n,
  2n ** 42n,
  2n ** 47n,
  2n ** 63n,
  2n ** 64n - 4096n,
  2n ** 64n - 1n,
];

const REGION_FIELDS = ["gpa", "lengthBytes", "userAddress", "fdOffset"] as const;
const fields = (region: Region): readonly bigint[] => REGION_FIELDS.map((name) => region[name]);
const asRegion = (place: Place): Region => ({
  ...place,
  userAddress: USER_ADDRESS + place.gpa,
});

type Numbers = readonly (number | bigint)[];

/** 32 bits for a number, 64 for a bigint. */
function words(values: Numbers): Buffer {
  const bytes = Buffer.alloc(
    values.reduce<number>((sum, value) => sum + (typeof value === "bigint" ? 8 : 4), 0),
  );
  let at = 0;
  for (const value of values) {
    if (typeof value === "bigint") at = bytes.writeBigUInt64LE(BigInt.asUintN(64, value), at);
    else at = bytes.writeUInt32LE(value >>> 0, at);
  }
  return bytes;
}

export class HostileMessages {
  readonly #random: Random;
  /** What the handshake has said, for messages that repeat it. */
  readonly #regions: readonly Place[];
  readonly #protocolFeatures: bigint;
  #oneOf = 4;

  constructor(random: Random, regions: readonly Place[], protocolFeatures: bigint) {
    this.#random = random;
    this.#regions = regions;
    this.#protocolFeatures = protocolFeatures;
  }

  /** @param oneOf of so many messages one is spoiled, or wants no answer if it is refused: that ends the connection, if all is well */
  next(oneOf: number): HostileMessage {
    const random = this.#random;
    this.#oneOf = oneOf;
    const name = random.pick(Object.keys(REQUEST) as RequestName[]);
    const [payload, descriptors, regions = []] = this.#content(name);
    const needsReply = !this.#isDeadly();
    const draft = { request: REQUEST[name] as number, payload, descriptors, needsReply };
    const message = this.#isDeadly() ? this.#deadly(draft) : this.#whole(draft, 0);
    if (regions.every((region) => this.#isGiven(region))) return message;
    // What a front-end hands over is the guest's: the bytes around its memory would be, too.
    const others = message.descriptors.map((kind) => (kind === "memory" ? "other memory" : kind));
    return { ...message, descriptors: others };
  }

  /** Whether it reaches no byte of the memory that the handshake has not given. */
  #isGiven({ fdOffset, lengthBytes }: Region): boolean {
    return this.#regions.some(
      (given) => fdOffset >= given.fdOffset && fdOffset + lengthBytes <= given.fdOffset + given.lengthBytes,
    );
  }

  #isDeadly(): boolean {
    return this.#random.below(this.#oneOf) === 0;
  }

  /** A message as it should be. */
  plain(
    name: RequestName,
    payload: Uint8Array,
    descriptors: readonly DescriptorKind[] = [],
    reply: "needs reply" | "no reply" = "needs reply",
  ): HostileMessage {
    const needsReply = reply === "needs reply";
    return this.#whole({ request: REQUEST[name], payload, descriptors, needsReply }, 0);
  }

  #whole({ request, payload, descriptors, needsReply }: Draft, flags: number): HostileMessage {
    const head = words([request, VERSION | flags | (needsReply ? NEEDS_REPLY : 0), payload.length]);
    const bytes = Buffer.concat([head, payload]);
    const cut = this.#random.below(8) === 0 ? this.#random.below(bytes.length) : 0;
    return { request, bytes, cut, descriptors, isWhole: true, needsReply };
  }

  #deadly(draft: Draft): HostileMessage {
    const random = this.#random;
    const { payload } = draft;
    switch (random.below(8)) {
      case 0:
        return this.#whole({ ...draft, payload: payload.subarray(0, random.below(payload.length + 1)) }, 0);
      case 1:
        return this.#whole(
          { ...draft, payload: Buffer.concat([payload, Buffer.alloc(1 + random.below(64))]) },
          0,
        );
      case 2:
        return this.#whole(
          { ...draft, payload: Buffer.alloc(random.pick([MAX_PAYLOAD_BYTES, 264, 2056, 1])) },
          0,
        );
      case 3:
        return this.#whole(draft, random.pick([REPLY, 2, 3, 0xffff_fff0]));
      case 4:
        return this.#whole({ ...draft, descriptors: this.#many() }, 0);
      case 5:
        return this.#whole({ ...draft, request: random.pick([0, 23, 41, 45, 255, 2 ** 31, 2 ** 32 - 1]) }, 0);
      case 6:
        return this.#lying(draft);
      default: {
        const bytes = Buffer.from(Array.from({ length: 1 + random.below(40) }, () => random.below(256)));
        return { ...draft, bytes, cut: 0, isWhole: false };
      }
    }
  }

  /** A length that is not that of the payload. */
  #lying(draft: Draft): HostileMessage {
    const message = this.#whole(draft, 0);
    const bytes = Buffer.from(message.bytes);
    const lengths = [
      0,
      1,
      draft.payload.length + 1,
      MAX_PAYLOAD_BYTES,
      MAX_PAYLOAD_BYTES + 1,
      2 ** 31,
      2 ** 32 - 1,
    ];
    const length = this.#random.pick(lengths);
    bytes.writeUInt32LE(length, 8);
    return { ...message, bytes, cut: 0, isWhole: length === draft.payload.length };
  }

  #many(): readonly DescriptorKind[] {
    const random = this.#random;
    const count = random.pick([1, 2, 7, 8, 9, 16, 252, 253]);
    return Array.from({ length: count }, () => random.pick(DESCRIPTORS));
  }

  /** Payload and descriptors, as that request has them; a field may be any number. */
  #content(name: RequestName): Content {
    const random = this.#random;
    switch (name) {
      case "SET_FEATURES":
        return [words([random.below(3) > 0 ? 0x1_5000_0000n : this.#nasty()]), []];
      case "SET_PROTOCOL_FEATURES":
        return [words([this.#isDeadly() ? this.#nasty() : this.#protocolFeatures]), []];
      case "SET_MEM_TABLE":
        return this.#table();
      case "ADD_MEM_REG": {
        const region = this.#region();
        return [words([0n, ...fields(region)]), [this.#memory()], [region]];
      }
      case "REM_MEM_REG":
        return [words([0n, ...fields(this.#region())]), random.below(8) === 0 ? [this.#memory()] : []];
      case "SET_VRING_NUM":
        return [
          words([this.#index(), random.pick([0, 1, 2, 16, 128, 3, 1024, 32_768, 65_536, 2 ** 31])]),
          [],
        ];
      case "SET_VRING_BASE":
        return [words([this.#index(), random.pick([0, 1, 5, 65_535, 65_536, 2 ** 32 - 1])]), []];
      case "SET_VRING_ENABLE":
        return [words([this.#index(), random.pick([0, 1, 1, 1, 2])]), []];
      case "GET_VRING_BASE":
        return [words([this.#index(), 0]), []];
      case "SET_VRING_ADDR": {
        const addresses = Array.from({ length: 3 }, () => this.#address());
        return [words([this.#index(), random.below(12) === 0 ? 1 : 0, ...addresses, 0n]), []];
      }
      case "SET_VRING_KICK":
      case "SET_VRING_CALL":
      case "SET_VRING_ERR":
        return this.#vringDescriptor();
      case "SET_BACKEND_REQ_FD":
        return [new Uint8Array(0), [random.below(2) === 0 ? "channel" : random.pick(DESCRIPTORS)]];
      case "GET_CONFIG":
      case "SET_CONFIG": {
        const [offset, size] = [
          random.pick([0, 0, 36, 40, 41, 255, 256, 2 ** 32 - 1]),
          random.pick([0, 4, 40, 256, 257, 2 ** 32 - 1]),
        ];
        return [words([offset, size, random.below(4), ...Array<number>(10).fill(0)]), []];
      }
      case "SET_LOG_BASE":
      case "SET_INFLIGHT_FD":
        return [words([this.#nasty(), this.#nasty()]), random.below(2) === 0 ? [this.#memory()] : []];
      case "SET_LOG_FD":
      case "SET_DEVICE_STATE_FD":
        return [words([0, 0]), [random.pick(DESCRIPTORS)]];
      case "SET_STATUS":
        return [words([this.#nasty()]), []];
      default:
        return [new Uint8Array(0), []];
    }
  }

  #nasty(): bigint {
    return this.#random.pick(NASTY);
  }

  #index(): number {
    return this.#isDeadly() ? this.#random.pick([64, 255, 2 ** 32 - 1]) : this.#random.pick([0, 1, 1, 2, 63]);
  }

  #address(): bigint {
    const random = this.#random;
    return random.below(4) > 0 ? USER_ADDRESS + BigInt(random.below(32) * 512) : USER_ADDRESS + this.#nasty();
  }

  #memory(): DescriptorKind {
    const random = this.#random;
    return random.below(6) > 0
      ? random.pick(["memory", "memory", "small memory", "huge memory"] as const)
      : random.pick(DESCRIPTORS);
  }

  /** One that was given, one beside it, or one that cannot be. */
  #region(): Region {
    const random = this.#random;
    const given = asRegion(random.pick(this.#regions));
    const isBeside = random.below(2) === 0;
    const region = isBeside ? { ...given, gpa: 2n ** 34n + BigInt(random.below(64)) * 8192n } : given;
    if (random.below(3) > 0) return region;
    return { ...region, [random.pick(REGION_FIELDS)]: this.#nasty() };
  }

  #table(): Content {
    const random = this.#random;
    if (random.below(2) === 0) {
      const given = this.#regions.flatMap((each) => fields(asRegion(each)));
      return [words([this.#regions.length, 0, ...given]), this.#regions.map(() => "memory")];
    }
    const count = random.below(this.#isDeadly() ? 10 : 9);
    const regions = Array.from({ length: count }, () => this.#region());
    const said = this.#isDeadly() ? random.pick([0, 9, 2 ** 32 - 1]) : count;
    const descriptors = Array.from({ length: Math.min(count, 8) }, () => this.#memory());
    return [words([said, 0, ...regions.flatMap(fields)]), descriptors, regions];
  }

  #vringDescriptor(): Content {
    const random = this.#random;
    const index = BigInt(this.#index() & 255);
    if (random.below(5) === 0) return [words([index | 256n]), []];
    const kind = random.below(2) === 0 ? "eventfd" : random.pick(DESCRIPTORS);
    return [words([index | (random.below(20) === 0 ? this.#nasty() : 0n)]), [kind]];
  }
}

type Draft = {
  readonly request: number;
  readonly payload: Uint8Array;
  readonly descriptors: readonly DescriptorKind[];
  readonly needsReply: boolean;
};

/** The length that a header says. */
export function payloadBytesOf(head: Uint8Array): number {
  return new DataView(head.buffer, head.byteOffset, HEADER_BYTES).getUint32(8, true);
}
