/**
 * The port space of a Linux guest: a 16550A, a PCI host bridge without devices, CMOS without a clock, ACPI's sleep and
 * reset registers. All else reads as ones and takes writes, as a bus without a device does. Pure but for its pins.
 *
 * The host bridge is there because Linux turns e820's persistent memory into a device only after a survey of PCI
 * (e820__reserve_resources_late(), called by pcibios_resource_survey()).
 */
import { ACPI_RESET_VALUE, acpiPort, S5_SLEEP_TYPE, SLEEP_ENABLE } from "./acpi.ts";
import { SERIAL_WORDS, Serial, type SerialPins } from "./serial.ts";

const SERIAL_PORT = 0x3f8;
const SERIAL_PORTS = 8;
/** The interrupt line of a PC's first serial port. */
export const SERIAL_GSI = 4;
const PCI_ADDRESS = 0xcf8;
const PCI_DATA = 0xcfc;
const CMOS_INDEX = 0x70;
const CMOS_DATA = 0x71;
const KEYBOARD_DATA = 0x60;
/** The second half of the PM1 event registers. */
const PM1_ENABLE: number = acpiPort.pm1Event + 2;
/** Pulses the CPU's reset line. */
const KEYBOARD_RESET = 0xfe;

/** Configuration space of the bridge at 0:0.0, by register: Intel's 440FX, class "host bridge". */
const bridge: ReadonlyMap<number, number> = new Map([
  [0x00, 0x12378086],
  [0x08, 0x06000002],
]);
const NO_DEVICE = 0xffffffff;

/** Words that the threads of all vCPUs share; zero at first. */
export const PORT_WORDS: number = SERIAL_WORDS + 2;

/** What a write asks of the machine. */
export type PortEvent = "power-off" | "reset";

export class Ports {
  readonly #serial: Serial;
  /** Behind the serial port's words: the address register of PCI's first mechanism, and ACPI's enable register. */
  readonly #pciAddress: Int32Array;
  readonly #pm1Enable: Int32Array;

  constructor(words: Int32Array, pins: SerialPins) {
    this.#serial = new Serial(words.subarray(0, SERIAL_WORDS), pins);
    this.#pciAddress = words.subarray(SERIAL_WORDS, SERIAL_WORDS + 1);
    this.#pm1Enable = words.subarray(SERIAL_WORDS + 1, PORT_WORDS);
  }

  /** @param size 1, 2 or 4 bytes; the result has as many */
  read(port: number, size: number): number {
    if (port >= SERIAL_PORT && port < SERIAL_PORT + SERIAL_PORTS)
      return this.#serial.read(port - SERIAL_PORT);
    if (port === PCI_ADDRESS && size === 4) return (this.#pciAddress[0] ?? 0) >>> 0;
    if (port >= PCI_DATA && port + size <= PCI_DATA + 4) return this.#configuration(port - PCI_DATA, size);
    // CMOS and keyboard: ones would be a clock that is always being updated, a controller that is always full.
    if (port === CMOS_INDEX || port === CMOS_DATA || port === KEYBOARD_DATA || port === acpiPort.reset)
      return 0;
    // Linux reads back what it has enabled; no event ever comes.
    if (port === PM1_ENABLE && size === 2) return this.#pm1Enable[0] ?? 0;
    if (port >= acpiPort.pm1Event && port < acpiPort.pm1Control + 2) return 0;
    return ones(size);
  }

  write(port: number, size: number, value: number): PortEvent | null {
    if (port >= SERIAL_PORT && port < SERIAL_PORT + SERIAL_PORTS)
      this.#serial.write(port - SERIAL_PORT, value & 0xff);
    else if (port === PCI_ADDRESS && size === 4) this.#pciAddress[0] = value | 0;
    else if (port === PM1_ENABLE && size === 2) this.#pm1Enable[0] = value;
    else if (port === acpiPort.reset && (value === ACPI_RESET_VALUE || value === KEYBOARD_RESET))
      return "reset";
    else if (port === acpiPort.pm1Control && (value & SLEEP_ENABLE) !== 0) {
      return ((value >> 10) & 7) === S5_SLEEP_TYPE ? "power-off" : null;
    }
    return null;
  }

  #configuration(offset: number, size: number): number {
    const address = (this.#pciAddress[0] ?? 0) >>> 0;
    const isBridge = (address & 0x80ffff00) >>> 0 === 0x80000000;
    const value = isBridge ? (bridge.get(address & 0xfc) ?? 0) : NO_DEVICE;
    return ((value >>> (8 * offset)) & ones(size)) >>> 0;
  }
}

function ones(size: number): number {
  return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
}
