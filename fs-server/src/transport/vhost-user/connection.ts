/**
 * Messages on a stream socket, with the descriptors that come with them. Blocking: the thread does nothing else meanwhile.
 * A message is read whole, or the connection is over; descriptors of what is not returned are closed.
 */
import { errnoName, receiveWithDescriptors, sendWithDescriptors } from "../../../../sys/src/index.ts";
import type { Message } from "./control.ts";
import { closeAll } from "./memory.ts";
import {
  decodeHeader,
  encodeReply,
  HEADER_BYTES,
  MAX_DESCRIPTORS,
  MAX_PAYLOAD_BYTES,
  ProtocolFault,
} from "./protocol.ts";

/** Why a connection ended without a fault. */
export class ConnectionEnd extends Error {
  override readonly name = "ConnectionEnd";
}

export class Connection {
  readonly #socket: number;
  readonly #head = new Uint8Array(HEADER_BYTES);
  readonly #payload = new Uint8Array(MAX_PAYLOAD_BYTES);

  constructor(socket: number) {
    this.#socket = socket;
  }

  /** The next message; its payload is valid until the next call. Throws a ConnectionEnd or a ProtocolFault. */
  receive(): Message {
    const fds: number[] = [];
    try {
      this.#fill(this.#head, fds, "between messages");
      const { request, needsReply, payloadBytes } = decodeHeader(this.#head);
      const payload = this.#payload.subarray(0, payloadBytes);
      this.#fill(payload, fds, `in a message (request ${request})`);
      if (fds.length > MAX_DESCRIPTORS) {
        throw new ProtocolFault(
          `request ${request} with ${fds.length} descriptors, above ${MAX_DESCRIPTORS}`,
        );
      }
      return { request, needsReply, payload, fds: [...fds] };
    } catch (error) {
      closeAll(fds);
      throw error;
    }
  }

  /** Throws a ConnectionEnd. */
  reply(request: number, payload: Uint8Array): void {
    const bytes = encodeReply(request, payload);
    for (let sent = 0; sent < bytes.length; ) {
      const result = sendWithDescriptors(this.#socket, bytes.subarray(sent), []);
      if (result <= 0) throw new ConnectionEnd(`the front-end took no answer: ${errnoName(-result)}`);
      sent += result;
    }
  }

  #fill(into: Uint8Array, fds: number[], where: string): void {
    for (let filled = 0; filled < into.length; ) {
      const {
        lengthBytes,
        fds: more,
        isTruncated,
      } = receiveWithDescriptors(this.#socket, into.subarray(filled));
      fds.push(...more);
      if (isTruncated) throw new ProtocolFault("descriptors were lost: raise RLIMIT_NOFILE of this server");
      if (lengthBytes === 0) {
        const isClean = filled === 0 && where === "between messages";
        throw new ConnectionEnd(isClean ? "the front-end has left" : `the front-end has left ${where}`);
      }
      if (lengthBytes < 0) throw new ConnectionEnd(`the connection is gone: ${errnoName(-lengthBytes)}`);
      filled += lengthBytes;
    }
  }
}
