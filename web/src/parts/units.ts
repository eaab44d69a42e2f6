/** A unit of UCUM as it is written: `10*9/L` is 10⁹/L. */
export function written(unit: string): string {
  return unit.replace(/10\*(\d+)/g, (_, power: string) => `10${[...power].map((digit) => '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(digit)]).join('')}`);
}
