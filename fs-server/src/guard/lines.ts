/** Messages over a stream: JSON, one object a line. */
import { StringDecoder } from "node:string_decoder";

/** Far above any message of ours. */
const MAX_LINE = 64 * 1024;

/** Cuts a stream into lines, and lines into messages. */
export class LineReader<Message> {
  /** Of the line that has not ended: joined once, so that a line in small pieces costs no more than one in large ones. */
  #pieces: string[] = [];
  #length = 0;
  readonly #decoder: StringDecoder = new StringDecoder("utf8");

  /** Throws a SyntaxError for what is not JSON, a RangeError for a line that is too long. */
  feed(bytes: Uint8Array): Message[] {
    const messages: Message[] = [];
    const [first = "", ...others] = this.#decoder.write(Buffer.from(bytes)).split("\n");
    this.#add(first);
    for (const next of others) {
      const line = this.#pieces.join("");
      this.#pieces = [];
      this.#length = 0;
      messages.push(JSON.parse(line) as Message);
      this.#add(next);
    }
    return messages;
  }

  #add(piece: string): void {
    this.#length += piece.length;
    if (this.#length > MAX_LINE) throw new RangeError(`a line of more than ${MAX_LINE} characters`);
    this.#pieces.push(piece);
  }
}
