//! The grammar of the stories: words with what goes with them, and the plots.
//!
//! A plot is a list of sentences, each with its weighted wordings. In a wording:
//!
//! | written | means |
//! | --- | --- |
//! | `[ran/walked]` | one of these, equally likely |
//! | `{hero=people}` | choose a row of `PEOPLE`, call it `hero`, write its first column |
//! | `{other=places!place.to}` | the same among the rows that are not `place`, writing column `to` |
//! | `{hero}`, `{place.spot}` | the row chosen before: its first column, or the named one |
//! | `{hero.he}` `{hero.him}` `{hero.his}` | the pronoun for its `kind` |
//! | `{hero\|was\|were}` | by whether its `kind` is `they` |
//! | `{Hero}` | a capital key writes a capital letter |
//!
//! Columns are written in the same language. Two different sequences of choices never give the
//! same text; a test holds the tables to that.

/// Rows to choose from, all equally likely; `columns` names what each row holds.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [&'static str],
    pub(super) rows: &'static [&'static [&'static str]],
}

/// `(kind, he, him, his)`.
pub(super) const PRONOUNS: [(&str, &str, &str, &str); 4] = [
    ("she", "she", "her", "her"),
    ("he", "he", "him", "his"),
    ("it", "it", "it", "its"),
    ("they", "they", "them", "their"),
];

pub(super) const TABLES: [Table; 8] = [
    PEOPLE, THINGS, COLOURS, PLACES, WEATHER, ANIMALS, HELPERS, DAYS,
];

const PEOPLE: Table = Table {
    name: "people",
    columns: &["name", "kind"],
    rows: &[
        &["Lily", "she"],
        &["Mia", "she"],
        &["Nora", "she"],
        &["Rosa", "she"],
        &["Grandma", "she"],
        &["Tom", "he"],
        &["Ben", "he"],
        &["Leo", "he"],
        &["Max", "he"],
        &["Grandpa", "he"],
        &["the twins", "they"],
        &["the sisters", "they"],
        &["the boys", "they"],
    ],
};

/// `broken`: what a fall makes of it; `fix`: what mends that.
const THINGS: Table = Table {
    name: "things",
    columns: &["name", "kind", "a", "use", "broken", "fix"],
    rows: &[
        &["kite", "it", "a", "fly", "torn", "tape"],
        &["ball", "it", "a", "throw", "flat", "a pump"],
        &["drum", "it", "a", "play", "dented", "a hammer"],
        &["boat", "it", "a", "sail", "cracked", "glue"],
        &["map", "it", "a", "study", "torn", "tape"],
        &["book", "it", "a", "read", "torn", "tape"],
        &["hat", "it", "a", "wear", "squashed", "hot steam"],
        &["cup", "it", "a", "use", "cracked", "glue"],
        &["boots", "they", "some", "wear", "ripped", "a needle"],
        &["gloves", "they", "some", "wear", "ripped", "a needle"],
        &["bells", "they", "some", "ring", "dented", "a hammer"],
        &["cards", "they", "some", "use", "bent", "hot steam"],
    ],
};

const COLOURS: Table = Table {
    name: "colours",
    columns: &["name"],
    rows: &[
        &["red"],
        &["blue"],
        &["green"],
        &["yellow"],
        &["white"],
        &["little"],
        &["big"],
        &["new"],
    ],
};

/// `spot`: where in the place something lies.
const PLACES: Table = Table {
    name: "places",
    columns: &["name", "at", "spot"],
    rows: &[
        &["forest", "in the forest", "under a tall tree"],
        &["beach", "at the beach", "on the warm sand"],
        &["hill", "on the hill", "in the long grass"],
        &["market", "at the market", "behind a fruit stall"],
        &["garden", "in the garden", "between two roses"],
        &["river", "by the river", "on a flat stone"],
        &["barn", "in the barn", "on a heap of hay"],
        &["school", "at the school", "next to the door"],
        &["harbour", "at the harbour", "in an old net"],
        &["station", "at the station", "on a wooden bench"],
    ],
};

/// A cause, what it makes of someone, and what helps.
const WEATHER: Table = Table {
    name: "weather",
    columns: &["cause", "effect", "remedy"],
    rows: &[
        &[
            "it began to rain",
            "wet",
            "sat by the fire until everything was dry",
        ],
        &[
            "it began to snow",
            "cold",
            "drank [hot soup/hot tea] under a blanket",
        ],
        &[
            "the sun grew hot",
            "thirsty",
            "drank [three cups/a whole jug] of water",
        ],
        &[
            "the path grew steep",
            "tired",
            "went to bed [early/before supper]",
        ],
        &["the wind blew up dust", "dirty", "took a [long/hot] bath"],
        &[
            "there was nothing to eat",
            "hungry",
            "ate a huge [plate/bowl] of rice",
        ],
    ],
};

const ANIMALS: Table = Table {
    name: "animals",
    columns: &["name", "says", "eats", "does"],
    rows: &[
        &["kitten", "mewing", "milk", "purred"],
        &["puppy", "barking", "a bone", "wagged its tail"],
        &["duck", "quacking", "bread", "flapped its wings"],
        &["lamb", "bleating", "clover", "jumped about"],
        &["pony", "snorting", "an apple", "tossed its head"],
        &["owl", "hooting", "a mouse", "blinked twice"],
    ],
};

const HELPERS: Table = Table {
    name: "helpers",
    columns: &["name", "kind"],
    rows: &[
        &["the baker", "she"],
        &["the miller", "he"],
        &["the teacher", "she"],
        &["the sailor", "he"],
        &["the farmers", "they"],
    ],
};

const DAYS: Table = Table {
    name: "days",
    columns: &["name"],
    rows: &[
        &["Monday"],
        &["Tuesday"],
        &["Friday"],
        &["Saturday"],
        &["Sunday"],
    ],
};

/// The wordings of one sentence, each with its weight.
pub(super) type Sentence = &'static [(u32, &'static str)];

/// How every story opens: who has what, and whom they meet where.
pub(super) const OPENING: &[Sentence] = &[
    &[
        (
            4,
            "{Hero=people} had {thing=things.a} {colour=colours} {thing}.",
        ),
        (
            2,
            "Once upon a time {hero=people} got {thing=things.a} {colour=colours} {thing}.",
        ),
        (
            1,
            "There was nothing {hero=people} loved more than {hero.his} {colour=colours} {thing=things}.",
        ),
    ],
    &[
        (
            2,
            "{Hero.he} liked to {thing.use} {thing.him} [every day/after lunch/all morning].",
        ),
        (
            1,
            "{Thing.he} {thing|was|were} a present from {hero.his} [aunt/uncle/cousin].",
        ),
    ],
    &[
        (
            3,
            "On {day=days} {hero} took {thing.him} to the {place=places}, where {friend=people!hero} {friend|was|were} waiting.",
        ),
        (
            2,
            "One {day=days} {hero} met {friend=people!hero} {place=places.at} and showed {friend.him} the {thing}.",
        ),
    ],
];

/// The plots, each with its weight; every one goes on from [`OPENING`].
pub(super) const PLOTS: &[(u32, &[Sentence])] =
    &[(3, LOST), (3, LENT), (2, BROKEN), (3, SWAPPED), (2, ANIMAL)];

/// The thing is left behind, missed somewhere else, and found where it was left.
const LOST: &[Sentence] = &[
    &[
        (
            2,
            "They played [for hours/until noon], and {hero} left the {thing} {place.spot}.",
        ),
        (
            1,
            "{Hero} put the {thing} {place.spot} and soon forgot all about {thing.him}.",
        ),
    ],
    &[
        (
            2,
            "Then {friend} wanted to see the {other=places!place}, so they [walked/ran/hurried] there.",
        ),
        (
            1,
            "Later they [walked/ran/hurried] to the {other=places!place} together.",
        ),
    ],
    &[
        (
            2,
            "On the way {weather=weather}, and {friend} became {weather.effect}.",
        ),
        (
            1,
            "Halfway there {weather=weather}, which made {friend} {weather.effect}.",
        ),
    ],
    &[
        (
            2,
            "When they reached the {other}, {hero} [saw/noticed] that the {thing} {thing|was|were} missing.",
        ),
        (
            1,
            "Only {other.at} did {hero} [see/notice] that the {thing} {thing|was|were} missing.",
        ),
    ],
    &[
        (
            2,
            "\"{Hero|I|We} must have left {thing.him} {place.at},\" said {hero}.",
        ),
        (
            1,
            "\"Who has seen the {colour} {thing}?\" asked {hero}, but {friend} had not.",
        ),
    ],
    &[
        (
            2,
            "So {hero.he} went back to the {place}, and there {thing|was|were} the {thing}, {place.spot}.",
        ),
        (
            1,
            "{Hero.he} looked {place.spot} {place.at} and found the {colour} {thing} again.",
        ),
    ],
    &[(
        1,
        "That night {friend} {weather.remedy}, and {hero} [slept well/sang a song/felt happy again].",
    )],
];

/// The friend borrows the thing and goes away with it; the hero follows.
const LENT: &[Sentence] = &[
    &[
        (
            2,
            "{Friend} asked to borrow the {thing}, and {hero} [said yes/agreed at once].",
        ),
        (
            1,
            "{Hero} let {friend} have the {colour} {thing} for a [day/while].",
        ),
    ],
    &[
        (
            2,
            "{Friend} carried {thing.him} to the {other=places!place}, but {hero} stayed {place.at}.",
        ),
        (
            1,
            "While {hero} stayed {place.at}, {friend} took {thing.him} to the {other=places!place}.",
        ),
    ],
    &[
        (
            2,
            "There {weather=weather}, and soon {friend} {friend|was|were} {weather.effect}.",
        ),
        (
            1,
            "Before long {weather=weather}, so {friend} became {weather.effect}.",
        ),
    ],
    &[
        (
            2,
            "In the evening {hero} wanted to {thing.use} the {thing} again.",
        ),
        (1, "After supper {hero} began to miss the {colour} {thing}."),
    ],
    &[
        (
            2,
            "\"{Friend} still {friend|has|have} {thing.him},\" said a neighbour, \"go and look {other.at}.\"",
        ),
        (
            1,
            "{Hero.he} remembered that {friend} had gone to the {other}.",
        ),
    ],
    &[
        (
            2,
            "So {hero} went to the {other} and asked for the {thing}.",
        ),
        (
            1,
            "{Hero} found {friend} {other.at}, {other.spot}, {weather.effect} and alone.",
        ),
    ],
    &[
        (
            2,
            "{Friend} gave {thing.him} back [at once/with a smile] and then {weather.remedy}.",
        ),
        (
            1,
            "{Friend} {weather.remedy}, and {hero} carried the {colour} {thing} home.",
        ),
    ],
];

/// The friend breaks the thing; a helper mends it with what that takes.
const BROKEN: &[Sentence] = &[
    &[
        (
            2,
            "{Friend} tripped over a [root/stone/bucket] and fell on the {thing}.",
        ),
        (
            1,
            "{Friend} wanted to {thing.use} {thing.him} too, but dropped {thing.him} on a [root/stone/bucket].",
        ),
    ],
    &[
        (
            2,
            "Now the {colour} {thing} {thing|was|were} {thing.broken}, and {hero} began to cry.",
        ),
        (
            1,
            "{Hero} cried because the {thing} {thing|was|were} {thing.broken}.",
        ),
    ],
    &[
        (
            2,
            "{Friend} {friend|was|were} very sorry and [held/took] {hero.his} hand.",
        ),
        (1, "\"{Friend|I am|We are} so sorry,\" said {friend}."),
    ],
    &[
        (
            2,
            "They knew that {helper=helpers} {other=places!place.at} could mend things, so they set out.",
        ),
        (
            1,
            "They took the {thing.broken} {thing} to {helper=helpers} {other=places!place.at}.",
        ),
    ],
    &[
        (
            2,
            "On the way {weather=weather}, and {friend} became {weather.effect}.",
        ),
        (
            1,
            "Soon {weather=weather}, but {friend} went on, {weather.effect} as {friend.he} {friend|was|were}.",
        ),
    ],
    &[
        (
            2,
            "{Helper} looked at the {thing}, fetched {thing.fix} and set to work.",
        ),
        (
            1,
            "With {thing.fix} {helper} mended the {colour} {thing} in no time.",
        ),
    ],
    &[
        (
            2,
            "{Hero} thanked {helper.him}, {friend} {weather.remedy}, and all was well.",
        ),
        (
            1,
            "At home {friend} {weather.remedy}, while {hero} [sang/danced] with joy.",
        ),
    ],
];

/// Two things change hands and change back.
const SWAPPED: &[Sentence] = &[
    &[
        (
            2,
            "{Friend} had {toy=things!thing.a} {shade=colours!colour} {toy}.",
        ),
        (
            1,
            "{Friend} had brought {toy=things!thing.a} {shade=colours!colour} {toy} along.",
        ),
    ],
    &[
        (
            2,
            "They [agreed/decided] to swap, so {hero} took the {toy} and {friend} took the {thing}.",
        ),
        (
            1,
            "{Hero} gave {friend} the {thing} and got the {toy} for {thing.him}.",
        ),
    ],
    &[
        (
            2,
            "All [day/week] {hero} could {toy.use} the {toy}, and {friend} could {thing.use} the {thing}.",
        ),
        (
            1,
            "Now the {shade} {toy} belonged to {hero} and the {colour} {thing} to {friend}.",
        ),
    ],
    &[
        (
            2,
            "Then {weather=weather} {place.at}, and {hero} became {weather.effect}.",
        ),
        (
            1,
            "But {weather=weather}, and soon {hero} {hero|was|were} {weather.effect}.",
        ),
    ],
    &[
        (
            2,
            "{Friend} {friend|was|were} [unhappy/sad], because {friend.he} missed the {toy}.",
        ),
        (
            1,
            "\"{Friend|I|We} miss the {shade} {toy},\" said {friend}.",
        ),
    ],
    &[
        (
            2,
            "So {hero} gave the {toy} back to {friend} and got the {thing} again.",
        ),
        (
            1,
            "They swapped back: the {thing} went to {hero} and the {toy} to {friend}.",
        ),
    ],
    &[
        (
            2,
            "Then {hero} {weather.remedy}, with the {colour} {thing} close by.",
        ),
        (
            1,
            "At home {hero} {weather.remedy}, and {friend} put the {toy} [away/on a shelf].",
        ),
    ],
];

/// A hungry animal is found, fed with what it eats, and follows the one who fed it.
const ANIMAL: &[Sentence] = &[
    &[
        (
            2,
            "Suddenly they heard something {animal=animals.says} {place.spot}.",
        ),
        (
            1,
            "There was a hungry {animal=animals} {place.spot}, {animal.says} [loudly/softly].",
        ),
    ],
    &[
        (
            2,
            "{Friend} {friend|was|were} [afraid/shy], but {hero} went closer and saw that the {animal} was alone.",
        ),
        (
            1,
            "\"Poor {animal},\" said {friend}, \"it must be [lost/hungry].\"",
        ),
    ],
    &[
        (
            2,
            "So {hero} went to the {other=places!place} to get {animal.eats}.",
        ),
        (
            1,
            "{Hero} remembered that there was {animal.eats} {other=places!place.at}.",
        ),
    ],
    &[
        (
            2,
            "On the way back {weather=weather}, and {hero} became {weather.effect}.",
        ),
        (
            1,
            "Coming back was hard: {weather=weather}, and {hero} {hero|was|were} {weather.effect}.",
        ),
    ],
    &[
        (2, "But the {animal} ate {animal.eats} and {animal.does}."),
        (1, "How the {animal} {animal.does} when it had eaten!"),
    ],
    &[
        (
            2,
            "It followed {hero} home, and {friend} carried the {thing}.",
        ),
        (
            1,
            "{Friend} carried the {colour} {thing} home, and the {animal} followed {hero}.",
        ),
    ],
    &[
        (
            2,
            "There {hero} {weather.remedy}, and the {animal} slept [by the stove/at the window].",
        ),
        (
            1,
            "In the evening {hero} {weather.remedy}, no longer {weather.effect}.",
        ),
    ],
];
