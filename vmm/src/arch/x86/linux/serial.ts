/**
 * A 16550A that only transmits (National Semiconductor's PC16550D data sheet; drivers/tty/serial/8250 uses it as console).
 * A byte is sent as soon as it is written. Nothing is ever received.
 *
 * The state lies in words that the threads of all vCPUs share; the caller holds the devices' lock.
 */

/** Registers by offset from the base port. */
const register = { data: 0, ier: 1, iirFcr: 2, lcr: 3, mcr: 4, lsr: 5, msr: 6, scratch: 7 } as const;

const IER_THRI = 2;
const IER_BITS = 0x0f;
const IIR_NONE = 1;
const IIR_THRI = 2;
const IIR_FIFO = 0xc0;
const FCR_ENABLE = 1;
const LCR_DLAB = 0x80;
const MCR_OUT2 = 8;
const MCR_LOOP = 0x10;
const MCR_BITS = 0x1f;
const LSR_IDLE = 0x60;
const MSR_CTS_DSR_DCD = 0xb0;

/** Words of the state. */
const word = { ier: 0, lcr: 1, mcr: 2, scratch: 3, divisorLow: 4, divisorHigh: 5, fifo: 6, thri: 7 } as const;
export const SERIAL_WORDS = 8;

export type SerialPins = {
  readonly transmit: (byte: number) => void;
  /** Called on changes only. */
  readonly setLine: (level: 0 | 1) => void;
};

export class Serial {
  readonly #words: Int32Array;
  readonly #pins: SerialPins;

  /** @param words `SERIAL_WORDS` of them, zero at first */
  constructor(words: Int32Array, pins: SerialPins) {
    this.#words = words;
    this.#pins = pins;
  }

  #get(name: keyof typeof word): number {
    return this.#words[word[name]] ?? 0;
  }

  #set(name: keyof typeof word, value: number): void {
    this.#words[word[name]] = value;
  }

  get #isDivisorLatched(): boolean {
    return (this.#get("lcr") & LCR_DLAB) !== 0;
  }

  /** The interrupt line: the transmitter's interrupt, enabled, and let through by OUT2, as on a PC. */
  #isRaised(): boolean {
    const enabled = (this.#get("ier") & IER_THRI) !== 0 && (this.#get("mcr") & MCR_OUT2) !== 0;
    return enabled && this.#get("thri") === 1;
  }

  /** A change of state, and the change of the line that follows from it. */
  #change(how: () => void): void {
    const before = this.#isRaised();
    how();
    const after = this.#isRaised();
    if (before !== after) this.#pins.setLine(after ? 1 : 0);
  }

  read(offset: number): number {
    switch (offset) {
      case register.data:
        return this.#isDivisorLatched ? this.#get("divisorLow") : 0;
      case register.ier:
        return this.#isDivisorLatched ? this.#get("divisorHigh") : this.#get("ier");
      case register.iirFcr:
        return this.#identify();
      case register.lcr:
        return this.#get("lcr");
      case register.mcr:
        return this.#get("mcr");
      case register.lsr:
        return LSR_IDLE;
      case register.msr:
        return this.#modemStatus();
      default:
        return this.#get("scratch");
    }
  }

  /** Reading IIR takes the transmitter's interrupt away. */
  #identify(): number {
    const fifo = this.#get("fifo") === 1 ? IIR_FIFO : 0;
    if ((this.#get("ier") & IER_THRI) === 0 || this.#get("thri") === 0) return IIR_NONE | fifo;
    this.#change(() => this.#set("thri", 0));
    return IIR_THRI | fifo;
  }

  /** In loop mode the outputs DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD. */
  #modemStatus(): number {
    const mcr = this.#get("mcr");
    if ((mcr & MCR_LOOP) === 0) return MSR_CTS_DSR_DCD;
    return ((mcr & 1) << 5) | ((mcr & 2) << 3) | ((mcr & 0xc) << 4);
  }

  write(offset: number, value: number): void {
    switch (offset) {
      case register.data:
        if (this.#isDivisorLatched) this.#set("divisorLow", value);
        else this.#transmit(value);
        return;
      case register.ier:
        if (this.#isDivisorLatched) this.#set("divisorHigh", value);
        else this.#enable(value & IER_BITS);
        return;
      case register.iirFcr:
        this.#set("fifo", value & FCR_ENABLE);
        return;
      case register.lcr:
        this.#set("lcr", value);
        return;
      case register.mcr:
        this.#change(() => this.#set("mcr", value & MCR_BITS));
        return;
      case register.scratch:
        this.#set("scratch", value);
    }
  }

  #transmit(byte: number): void {
    if ((this.#get("mcr") & MCR_LOOP) === 0) this.#pins.transmit(byte);
    this.#change(() => this.#set("thri", 1));
  }

  /** Enabling the transmitter's interrupt while it is empty, which it always is, raises it. */
  #enable(ier: number): void {
    const wasEnabled = (this.#get("ier") & IER_THRI) !== 0;
    this.#change(() => {
      this.#set("ier", ier);
      if (!wasEnabled && (ier & IER_THRI) !== 0) this.#set("thri", 1);
    });
  }
}
