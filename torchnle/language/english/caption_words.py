"""Function words of captions: determiners, measure words, and words about the picture itself."""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Words in front of a noun that give way to its article.
POINTERS = _words(
    "a an the another this that these those some any several many few most both all each every my your "
    "his her its our their one various multiple other more enough no"
)
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
HELPERS = _words(
    "is are was were be been being am has have had do does did will would could should may might must get "
    "gets"
)
#: They stand for things, or speak of places and times, and name nothing that is seen.
NO_THINGS = _words(
    "i you he she it we they me him us them who which what something someone somebody anything anyone "
    "nothing everything everyone one ones other others each there here itself himself herself themselves "
    "front top side sides back middle center centre bottom background foreground distance end edge left "
    "right day days night daytime nighttime morning evening afternoon winter summer time way lot lots "
    "kind kinds type types sort variety number photo photos photograph photographs picture pictures image "
    "images view views closeup close-up shot"
)
#: What they hold or gather is named with them: "a glass of wine", "a herd of sheep".
VESSELS = _words(
    "bag bags basket baskets bottle bottles bouquet bouquets bowl bowls box boxes bucket buckets can cans "
    "carton crate crates crowd cup cups flock glass glasses herd jar jars mug mugs pack pan pitcher plate "
    "plates platter pot pots row rows set slices stack stacks team tray trays vase vases bunches clusters "
    "couples groups pairs piles pieces heaps"
)
#: There is one of them.
UNIQUE = _words("sky sun moon ground sea world earth air horizon")

_SHOWN = r"photo(?:graph)?s?|pictures?|images?|views?|shots?|scenes?|close[- ]?ups?"
#: "a black and white photo of"
FRAMES = re.compile(
    rf"\b(?:(?:an?|the|this|is|some) )?(?:[\w-]+ (?:and|&) [\w-]+ |[\w-]+ )??(?:{_SHOWN})(?: {_SHOWN})*"
    r"(?: taken)? (?:of|showing|shows|that shows|with)\b"
)
_PLACE = (
    "front|top|back|middle|cent(?:er|re)|sides?|edge|end|bottom|rear|corner|inside|outside|left|right|base"
)
#: "in front of", "next to each other", "in the background"; "a lot of"
RELATIONS = re.compile(
    rf"\b(?:(?:in|on|at|to|from|by|near|along|off|over) )?(?:(?:the|an?|its|his|her|their|either|each) )?"
    rf"(?:[\w-]+ )?(?:{_PLACE}) of\b"
    r"|\b(?:in|on|to|at|from) (?:the|its) (?:background|foreground|distance)\b"
    r"|\b(?:in|on|to|at|from) (?:the|its) (?:left|right|rear|front|back|side)\b"
    r"|\b(?:next|close|adjacent) to(?: each other| one another)?\b|\beach other\b|\bone another\b"
    r"|\b(?:because|instead|out|full|ahead) of\b|\b(?:an?|the) close[- ]?up\b"
    r"|\b(?:(?:an?|the) )?(?:\w+ )?(?:variety|lots?|number|assortment|types?|kinds?|sorts?|dozens|bits?) of\b"
)
