"""What stands beside a number or a name and says that it is none to mask: units, quantities, medical words."""

from __future__ import annotations

import re

_UNIT = re.compile(
    r"\s{0,2}(?:[%‰°×]|x\s?10|\*\s?10|10\^|/\s?(?:[µuμ]?[lL]|mm|mL|ml|dL|nL|hpf|HPF|min|day|d\b|h\b)|"
    r"(?:mg|g|kg|[µuμ]g|mcg|ng|pg|mmol|[µuμ]mol|nmol|pmol|mol|m?Eq|m?IU|[µuμ]?IU|IE|mU|U|E|units?|Einheiten|mL|ml|dL|dl|[µuμ][lL]|fL|L|"
    r"l|cells?|copies|Kopien|CFU|cfu|KBE|cm|mm|km|m|[µuμ]m|nm|Hz|kHz|bpm|mmHg|mm\s?Hg|kPa|cmH2O|sec|s|ms|min|mins|minutes?|Minuten|"
    r"h|hrs?|hours?|Std|Stunden?|days?|d|Tagen?|weeks?|wks?|Wochen?|months?|mths?|Monaten?|years?|yrs?|yo|y|Jahren?|Fr|French|Ch|"
    r"Gy|cGy|mSv|mGy|kV|mAs?|kcal|cal|tablets?|tabs?|Tabl\w*|caps\w*|Kaps\w*|puffs?|drops|Tropfen|doses?|Hub|times|x|mal|"
    r"platelets|Thrombo\w*|Leuko\w*|leuko\w*|white|red|WBC|RBC|steps|points?|beats|breaths|patients|people|cases|"
    r"mg/\w+|AU|RU|RLU|Da|kDa|dB|Ω|V|W|N|J|kJ|bar|psi|ppm|ppb|pack)(?![^\W\d_]))"
)
_QUANTITY = re.compile(
    r"(?:[<>≤≥=~≈]|\b(?:platelets?|plts?|thrombo\w*|leu[ck]o\w*|erythro\w*|neutro\w*|lympho\w*|wbc|rbc|count|counts|level|levels|load|"
    r"tit(?:er|re)s?|value|values|wert|werte|ferritin|(?:nt[ -]?pro)?bnp|d[ -]?dimers?|troponin\w*|tnt|tni|hs-\w+|ck|ck-mb|ldh|ast|alt|"
    r"ggt|gamma-gt|amylase|lipase|psa|hcg|cea|afp|ca\s?\d{2,3}-?\d?|dose|dosis|units|score|index|total|approx|about|around|approximately|"
    r"circa|ca\.|creatinin\w*|kreatinin\w*|myoglobin|tsh|vitamin|igg|ige|iga|igm|alp|bilirubin|urea|glucose|crp|pct|"
    r"procalcitonin|measured|volume|cells|zellen|copies|viral|rna|dna|heparin|penicillin|penicillin-g|colistin)\b)"
    r"[^\w.;!?\n]{0,3}(?:(?:count|level|was|were|is|are|of|at|to|from|rose|fell|now|war|bei|von|auf|ist|betrug|today|heute|approx|about|"
    r"currently|up|down|only|still|zahl|anzahl|increased|decreased|dropped|with|mit|a|the|[=<>≤≥:~])[^\w.;!?\n]{1,3}){0,4}$",
    re.IGNORECASE,
)
_LOOK_BACK, _LOOK_AHEAD = 60, 24


def is_measured(text: str, start: int, end: int) -> bool:
    """Whether what stands from `start` to `end` is measured: a unit follows it, or what is measured precedes it."""
    return bool(_UNIT.match(text, end, end + _LOOK_AHEAD)) or bool(
        _QUANTITY.search(text[max(0, start - _LOOK_BACK) : start])
    )


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


PARTICLES = _set(
    "da de del della dem den der des di do dos du el la las le los of te ten ter van von vom y zu zum zur al bin ben ibn bint abu"
)

GENERIC = PARTICLES | _set(
    "anonymous anonymized anonymised anonym anon patient patientin test testpatient unknown unbekannt unnamed none male female "
    "name names no baby infant neonate newborn boy girl twin deceased phantom dummy demo sample example case study subject "
    "mr mrs ms miss mx dr prof professor herr frau sir sister nurse doctor jr sr ii iii iv md phd dds rn np pa mph msc bsc mbbs "
    "frcr mrcp facr chest thorax film image images radiology hospital clinic center centre"
)
"""What stands in a name's field and is no name."""

ALWAYS_WORDS = _set(
    # Months, eponyms, and nouns that begin with a capital, in German wherever they stand.
    "may march april june july august january february september october november december mai juni juli märz "
    "parkinson foley kerley alzheimer crohn hodgkin down graves bell wilson marfan addison cushing murphy babinski baker "
    "barrett bright koch colles smith bennett pott swan ganz hickman kaposi wegener basedow bechterew hashimoto raynaud "
    "sjögren ewing dupuytren horner huntington kawasaki turner klinefelter tourette bowen paget perthes osler virchow "
    "glasgow apgar norton braden wells child pugh ranson gleason fontaine killip forrester mallampati borg hounsfield "
    "doppler holter röntgen roentgen trendelenburg fowler valsalva whipple hartmann billroth roux nissen ross bentall "
    "fontan glenn blalock mustard allen finkelstein phalen tinel lasègue lachman rinne weber romberg brudzinski kernig "
    "herz lunge lungen kopf arm arme hals fuss fuß bein hand haut knie leber magen darm niere rippe rippen brust bauch "
    "winter sommer frost schmerz husten fieber koch bauer schwarz weiss weiß klein gross groß lang kurz alt jung roth rot "
    "braun grau frisch stark kranz stein blut wasser hut berg wolf fuchs vogel sonntag montag freitag "
    "heart lung lungs head hand foot arm back neck bone hip skin bowel liver kidney chest blood ray rays port mass wall "
    "field fields base bases apex hila hilum shadow line lines view views normal bell cross case gold silver iron "
    "cardiac pleura aorta trachea rib ribs spine carina lobe"
)
SOMETIMES_WORDS = _set(
    # English words that begin with a capital only where a sentence does.
    "will mark young white brown black green grey gray long short small little strong hope grace rose joy faith grant price rich "
    "best good wise early late new old major minor sharp swift noble savage bishop king knight page cook carter carpenter mason "
    "miller taylor turner walker potter porter fisher hunter gardener shepherd dean abbott pope church temple hall hill field wood "
    "woods stone rivers brook brooks lake poole marsh moss heath reed rush bush ash berry cherry olive ivy lily violet daisy "
    "jasmine ginger pepper basil sage rosemary iris pearl ruby jade amber crystal summer winter spring autumn frost snow rain storm "
    "day noon weeks knight english french german welsh scott ireland england london paris sydney austin dallas chase drew rob bill "
    "bob jack pat peg sue dot art gene guy ray ward case chance chase cash penny dollar buck frank earnest ernest max min pace bond "
    "cage cannon shields pike spears hammer nail head hands foot legg love darling sweet honey sugar power powers blank bland blunt "
    "brave bright clear cooper cross curry daily dare doyle duke earl east north south west farmer fast field fine fish fleet flint "
    "flood flower ford foreman forest fox free freeman friend gamble gates golden goodman grave green grove guard hardy hart harsh "
    "hawk hazel holder holly hood horn house howe hull hurt jewel keen kind lamb lane large law lawless leader lean lightfoot link "
    "lock lord low lowe lyon manual mayor mead means merry mild mills mix moon moore more morrow must nice oh page paine pain park "
    "parks parson peak pine pitts place plant pleasant plumb pool poor post pound pratt pride prime prince proper proud quick "
    "ready robin rock root rowe sales salmon sands saw sawyer school sell sharpe shaw shore shy silver singer single slaughter "
    "smart smith snell sparrow sparks staff staples star steel still street sutton swan tanner tate thorn tilt todd trim trout true "
    "van vance vein wade waite walls water waters watt way webb wells wheeler will wills winner worth wright wynn yard yates york "
    "any anton see seen so since given known under mar art ali mine sin son sung song long deal dang dong hung hoang"
)
TWO_LETTER_WORDS = _set(
    "he in no so to an do oh me we is it at on or by as am pm ma na ca mg la le be go my up us if of er es im ob zu da ab "
    "ba bi ci co cu fe hb hr ph pt tp tb ta ra ri rt lt ro ic iv po od bd li al ag au sr dr mr ms st ad et ce ne ni ha hi ho"
)

_DEPARTMENTS = _set(
    "cardiology respiratory surgery surgical radiology emergency department dept team unit ward clinic hospital service services "
    "registrar consultant practitioner specialist physician surgeon medicine medical oncology neurology orthopaedics orthopedics "
    "paediatrics pediatrics psychiatry dermatology haematology hematology gastroenterology nephrology urology anaesthesia anesthesia "
    "intensive care critical physiotherapy pharmacy pathology microbiology radiographer radiologist resident intern attending manager "
    "coordinator staff nursing social worker family parents patient ambulance paramedics general practice gp ed er icu itu ccu ct mri "
    "xray notified informed aware called review reviewed contacted recommends advised requests requested office appointment call "
    "chef station ambulanz klinik praxis hausarzt arzt oberarzt innere chirurgie kardiologie"
)
_MEDICAL = _set(
    "creatinine creatinin kreatinin potassium sodium calcium magnesium phosphate chloride bicarbonate urea uric bilirubin albumin "
    "globulin protein ferritin iron glucose lactate amylase lipase troponin electrolytes cholesterol triglycerides ast alt alp ggt ldh "
    "ck crp pct tsh hcg psa cortisol insulin testosterone estradiol prolactin vitamin folate ammonia osmolality levels level na k ca mg "
    "cl po fe zn cu ige igg igm iga tsh ft3 ft4 pth bnp acth ace contin known history chest abdominal pain cough fever right left "
    "bilateral no normal stable acute chronic severe mild moderate new old male female rate dose period diagnosis pneumonia effusion "
    "copd asthma diabetes diabetic hypertension hypertensive smoker unknown none not and with the for he she this that there since was "
    "is has had will may march monday tuesday wednesday thursday friday saturday sunday januar februar aufnahme befund diagnose verdacht "
    "anamnese zustand beschwerden husten fieber schmerzen foley catheter block drain chromatid mary's cell cells"
)
NOT_NAMES = _DEPARTMENTS | _MEDICAL
"""What may follow a title or a label with a capital and is no name."""

EPONYM_NOUN = re.compile(
    r"(?:['’]s|s['’]|['’])?[\s-]{1,2}(?:[A-Z][\w’'-]+[\s-])?(?:disease|syndrome|sign|signs|catheter|cath|lines?|fractures?|cyst|test|tube|"
    r"procedure|repair|ulcer|hernia|tumou?r|lymphoma|palsy|score|index|criteria|classification|chorea|sarcoma|oesophagus|esophagus|"
    r"thyroiditis|phenomenon|pouch|operation|contracture|node|triad|position|manoeuvre|maneuver|pressure|scale|coma|units?|grade|"
    r"class|shunt|bodies|body|corpuscles|nodule|lobe|cells?|agent|solution|lactate|monitor|ultrasound|heart|foot|patch|"
    r"krankheit|syndrom|zeichen|katheter|linien|fraktur|schema|pneumonia|dementia|dementsia)(?![^\W\d_])",
    re.IGNORECASE,
)
