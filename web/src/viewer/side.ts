import type { ImageInformation } from '../api/types';

/** Laterality as it is written on a film; nothing where the file says that it is not known. */
export function sideOf({ laterality }: Pick<ImageInformation, 'laterality'>): string {
  return laterality === null || laterality === 'U' ? '' : laterality;
}
