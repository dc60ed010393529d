//! What characters look like on the screen: the loader brings the font, the core gets pixels.

use abi::boot::screen::{GLYPH_HEIGHT, GLYPH_WIDTH, GLYPHS, Glyph};
use base::log::Glyphs;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

const FONT: FontWeight = FontWeight::Regular;
const SIZE: RasterHeight = RasterHeight::Size16;

const _: () = assert!(get_raster_width(FONT, SIZE) == GLYPH_WIDTH && SIZE.val() == GLYPH_HEIGHT);

/// What stands for a character that the font does not have.
pub const BOX: Glyph = [0xff; GLYPH_WIDTH * GLYPH_HEIGHT];

/// The pixels of all characters.
pub fn all() -> &'static Glyphs {
    static ALL: spin::Once<Glyphs> = spin::Once::new();
    ALL.call_once(|| {
        let mut glyphs = [BOX; GLYPHS];
        rasterize(&mut glyphs);
        glyphs
    })
}

fn rasterize(glyphs: &mut Glyphs) {
    *glyphs = [BOX; GLYPHS];
    for (glyph, character) in glyphs.iter_mut().zip(' '..='~') {
        let Some(raster) = get_raster(character, FONT, SIZE) else { continue };
        for (to, from) in glyph.iter_mut().zip(raster.pixels()) {
            *to = *from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_has_all_of_ascii_and_a_box_for_the_rest() {
        let mut glyphs = [[0; GLYPH_WIDTH * GLYPH_HEIGHT]; GLYPHS];
        rasterize(&mut glyphs);
        assert!(glyphs[0].iter().all(|&pixel| pixel == 0), "a blank");
        assert!(glyphs[1..95].iter().all(|glyph| *glyph != BOX && glyph.iter().any(|&pixel| pixel != 0)));
        assert_eq!(glyphs[95], BOX);
    }
}
