"""The words of the captions. '|' separates synonyms, '*' marks test-only ones.

Slots in braces are filled by captions.py. Templates avoid verbs whose number
would depend on the instrument ("bagpipes", "strings").
"""

RHYTHMS = {
    'reel': 'reel|folk reel|reel dance tune|*dancing reel',
    'jig': 'jig|double jig|folk jig|jig|*bouncing jig',
    'slip jig': 'slip jig|slip jig in nine-eight|*hop jig',
    'hornpipe': "hornpipe|swung hornpipe|*sailor's hornpipe",
    'strathspey': 'strathspey|dotted strathspey',
    'polka': 'polka|country polka|*village polka',
    'march': 'march|marching tune|*parade tune',
    'slide': 'slide|slide dance',
    'waltz': 'waltz|waltz in three|waltzing tune|*ballroom waltz',
    'minuet': 'minuet|courtly minuet',
    'air': 'air|song air|folk melody|*old song melody'}

ORIGINS = dict(
    irish='irish|irish folk|celtic|traditional irish|*gaelic',
    american='old-time|folk|american folk|*vintage folk',
    scottish='scottish|old scottish|celtic|scottish folk|*highland')

MOODS = {
    'fast major': 'lively|cheerful|joyful|upbeat|energetic|spirited|playful|'
                  'merry|bright|bouncy|*exuberant|*jolly|*sprightly',
    'fast minor': 'driving|fiery|intense|urgent|spirited|restless|energetic|'
                  'lively|dark|*fierce|*stirring',
    'medium major': 'cheerful|easygoing|warm|good-natured|relaxed|sunny|'
                    'pleasant|happy|*carefree|*light-hearted',
    'medium minor': 'mysterious|pensive|moody|serious|wistful|brooding|'
                    'dark|*shadowy|*enigmatic',
    'slow major': 'peaceful|gentle|calm|tender|serene|warm|nostalgic|'
                  'relaxing|*soothing|*dreamy',
    'slow minor': 'melancholic|sad|mournful|wistful|sorrowful|haunting|'
                  'lonely|emotional|*plaintive|*heartbroken',
    'march major': 'stately|proud|solemn|dignified|confident|heroic|festive|'
                   '*noble|*ceremonial',
    'march minor': 'grim|solemn|serious|determined|stern|heroic|*ominous|'
                   '*foreboding'}

# Words that a loud, or a soft, performance contradicts.
NOT_LOUD = frozenset((
    'peaceful', 'gentle', 'calm', 'tender', 'serene', 'relaxing', 'relaxed',
    'soothing', 'dreamy', 'easygoing'))
NOT_SOFT = frozenset((
    'energetic', 'driving', 'fiery', 'intense', 'fierce', 'exuberant',
    'heroic'))

TEMPI = dict(
    fast='fast tempo|quick tempo|upbeat tempo|lively pace|*brisk pace',
    medium='medium tempo|moderate tempo|steady pace|*comfortable walking pace',
    slow='slow tempo|slow pace|unhurried tempo|*leisurely pace')

COLOURS = dict(major='major key|major mode|bright major key|*sunny major '
                     'tonality',
               minor='minor key|minor mode|dark minor key|*sombre minor '
                     'tonality')

SCENES = {
    'fast major': 'a village dance|an irish pub session|a folk festival|'
                  'a wedding party|a barn dance|*a harvest celebration',
    'fast minor': 'a chase scene|a wild folk dance|a pirate film|'
                  'a fantasy battle|*a storm at sea',
    'medium major': 'a walk through the countryside|a country fair|'
                    'a cosy tavern|a family film|*a sunny market square',
    'medium minor': 'a fantasy game|a medieval tavern|a mystery story|'
                    'a walk through a forest at dusk|*a legend told by the '
                    'fire',
    'slow major': 'a lullaby|a quiet morning|a romantic scene|a relaxing '
                  'evening|*a sunset over the hills',
    'slow minor': 'a funeral scene|a sad farewell|a lonely moor|'
                  'a rainy day|*a ruined abbey',
    'march major': 'a parade|a procession|a historical film|a homecoming|'
                   '*a changing of the guard',
    'march minor': 'a battle scene|a historical film|an army on the move|'
                   '*soldiers leaving home'}

REGISTERS = dict(low='low register|deep register|*dark low range',
                 middle='middle register',
                 high='high register|upper register|*piercing high range')

DYNAMICS = dict(soft='soft|quiet|gentle and soft|*hushed',
                moderate='moderately loud', loud='loud|powerful|'
                'strong|*forceful')

ORNAMENTS = {
    '': '',
    'grace notes': 'grace notes|quick grace notes|little grace notes|'
                   '*crisp cuts',
    'trills': 'trills|trills on the long notes|*fluttering trills'}

ROOMS = dict(
    dry='a dry sound|a clean sound|a close, dry sound|*a studio-dry sound',
    room='natural room sound|a touch of reverb|*the air of a small room',
    hall='spacious reverb|large hall reverb|lots of reverb|'
         '*cathedral-like echo')

CHORD_STYLES = {
    '': '', 'vamp': 'vamping chords|off-beat chords|*oom-pah chords',
    'strum': 'rhythmic chords|steady chords in rhythm|*driving chords',
    'arpeggio': 'arpeggios|broken chords|rolling arpeggios|*rippling figures',
    'sustain': 'long held chords|sustained chords|*slow-moving harmonies'}

DRONE = 'a drone|a steady drone|a low drone|*a humming pedal note'
INSTRUMENTAL = 'instrumental|no vocals|*without singing'
WORDLESS = 'wordless vocals|choir voices'
SOLO = 'solo|unaccompanied|*by itself'

NO_DRUMS = 'with no percussion|without drums|without percussion|no drums|*drumless'

TEMPLATES = {
    'prompt': [
        'a {mood} {origin} {rhythm} on {lead} with {backing}',
        '{mood} {origin} {rhythm}, {lead} with {backing}',
        '{lead} playing a {mood} {rhythm}, with {backing}',
        'a {mood} {rhythm} with {lead} and {backing}',
        '{mood} {origin} music: {lead}, {backing}, {tempo}',
        '{origin} {rhythm} featuring {lead} and {backing}, {mood} and {mood2}',
        'a {mood} {rhythm} for {lead} over {backing}',
        '{rhythm} on {lead} with {backing}, {tempo}',
        '*give me a {mood} {rhythm} with {lead} backed by {backing}',
        '*{lead} and {backing} in a {mood} {origin} {rhythm}'],
    'prompt_solo': [
        'a {mood} {origin} {rhythm} on solo {lead}',
        'solo {lead}, {mood} {origin} {rhythm}',
        '{mood} {rhythm} on {lead} alone, {tempo}',
        'unaccompanied {lead} playing a {mood} {rhythm}',
        '*nothing but {lead}: a {mood} {origin} {rhythm}'],
    'prompt_hummed': [
        'someone humming a {mood} {rhythm}',
        'a {lead} with a {mood} {origin} melody',
        'a hummed {origin} {rhythm}, {mood}',
        'a person hums a {mood} tune without words',
        '*a {mood} tune hummed under the breath'],
    'lead': [
        'A {mood} {origin} {rhythm} played on {lead} with {backing}.',
        'This is a {mood} {origin} {rhythm} with {lead} playing the melody.',
        'This instrumental features {lead} playing a {mood} {rhythm}, '
        'accompanied by {backing}.',
        'The song is a {mood} {rhythm} in the {origin} style with {lead} in '
        'front of {backing}.',
        'A {mood} {origin} tune: the melody of this {rhythm} is on {lead}, '
        'with {backing} behind it.',
        'A {mood} and {mood2} {rhythm}: the tune is on {lead}, the backing '
        'on {backing}.',
        'A {rhythm} with {lead} as the lead instrument and {backing} as '
        'accompaniment.',
        'We hear {lead} leading a {mood} {origin} {rhythm}, with {backing}.',
        'This folk piece is a {mood} {rhythm} carried by {lead}, while the '
        'accompaniment consists of {backing}.',
        '{origin} music with {lead} and {backing}, {mood} and {mood2}.',
        '*Here {lead} takes up a {mood} {origin} {rhythm}, helped '
        'along by {backing}.',
        '*Imagine a {mood} {rhythm}: {lead} on top, {backing} below.',
        '*What you hear is {origin} repertoire, a {mood} {rhythm} given to '
        '{lead} with {backing}.'],
    'lead_solo': [
        'A {mood} {origin} {rhythm} played on solo {lead}.',
        'This is a {mood} {rhythm} for {lead} without accompaniment.',
        'The recording features {lead} alone, playing a {mood} {origin} '
        '{rhythm}.',
        'Unaccompanied {lead} playing a {mood} and {mood2} {rhythm}.',
        '*Just {lead} and no one else in this {mood} {origin} {rhythm}.'],
    'lead_hummed': [
        'A person is humming a {mood} {origin} {rhythm} without any '
        'instruments.',
        'A {lead} performs a {mood} {rhythm} a cappella.',
        'This is an amateur recording of someone humming a {mood} tune.',
        'Solo humming of a {mood} {origin} {rhythm}, without words.',
        '*Somebody hums a {mood} {rhythm} to themselves.'],
    'second': [
        'The melody is doubled by {second}.',
        'The tune is played in unison or octaves with {second}.',
        '*A doubling line on {second} shadows the tune.'],
    'chords': [
        'The accompaniment consists of {chord_style} on {chords}.',
        'The harmony is given by {chord_style} on {chords}.',
        'There are {chord_style} on {chords} in the background.',
        'Underneath there is {chords} with {chord_style}.',
        '*Beneath the tune one hears {chord_style} from {chords}.'],
    'bass': [
        'The low end is a simple line on {bass}.',
        'There is {bass} marking the roots of the chords.',
        'A steady bass line is played on {bass}.',
        '*The foundation is laid by {bass}.'],
    'drums': [
        'The rhythm is kept by {drums}.',
        'The percussion consists of {drums} with a steady groove.',
        'The beat comes from {drums}.',
        'There is rhythmic support from {drums}.',
        '*A pulse of {drums} pushes the music on.'],
    'no_drums': [
        'There is no percussion.',
        'No drums are played.',
        'It has no percussion and no drums.',
        '*Nobody plays a drum.'],
    'drone': [
        'A steady drone underlies the whole tune.',
        'Tonic and fifth are held as a drone.',
        '*One long pedal sound lies under everything.'],
    'voice': [
        'The pitch drifts a little and the voice takes breaths between '
        'phrases.',
        'The voice has a slight vibrato and no accompaniment.',
        'There are no words and no instruments.',
        '*The intonation wavers like that of an untrained singer.'],
    'ornament': [
        'The melody is decorated with {ornament}.',
        'The player adds {ornament} to the tune.',
        '*One notices {ornament} all along the melody.'],
    'tempo': [
        'The piece has a {tempo}.', 'It is played at a {tempo}.',
        'The tempo is about {bpm} beats per minute, a {tempo}.',
        '*Its beat moves along at a {tempo}.'],
    'key': [
        'The tune is in {key}.', 'It is in a {colour}.',
        'The melody in {key} repeats its short phrases.',
        '*{key} is the home key.'],
    'register': [
        'The melody lies in a {register}.', 'It is played in the {register}.',
        '*The line keeps to a {register}.'],
    'dynamics': [
        'The playing is {dynamics}.', 'The overall dynamics are {dynamics}.',
        '*The volume is kept {dynamics}.'],
    'room': [
        'The recording has {room}.', 'It is recorded with {room}.',
        '*Acoustically, the track has {room}.'],
    'mood': [
        'The mood is {mood} and {mood2}.', 'The atmosphere is {mood}.',
        'The music feels {mood} and {mood2}.',
        'It sounds {mood}.',
        '*The feeling that it leaves is {mood}.'],
    'scene': [
        'This could accompany {scene}.', 'It would suit {scene}.',
        'This music could be used in the soundtrack for {scene}.',
        'It is reminiscent of {scene}.',
        '*One could picture {scene} with it.'],
}
