/** Messages over a stream: JSON, one object a line. */
import { StringDecoder } from "node:string_decoder";

/** Far above any message of ours. */
const MAX_LINE = 64 * 1024;

/** Cuts a stream into lines, and lines into messages. */
export class LineReader<Message> {
  #rest = "";
  readonly #decoder: StringDecoder = new StringDecoder("utf8");

  /** Throws a SyntaxError for what is not JSON, a RangeError for a line that does not end. */
  feed(bytes: Uint8Array): Message[] {
    const lines = (this.#rest + this.#decoder.write(Buffer.from(bytes))).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > MAX_LINE) throw new RangeError(`a line of more than ${MAX_LINE} characters`);
    return lines.map((line) => JSON.parse(line) as Message);
  }
}
