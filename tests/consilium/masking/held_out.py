"""Templates and prose that were written after the rules of masking; what their first run showed mended two of them.

The kinds of dates, identifiers, telephone numbers and addresses are those of `corpus`, which both other halves share.
"""

from __future__ import annotations

PLANTED = (
    "CXR {date} for {name}: {finding}.",
    "Thank you for referring {name} ({id}), who attended on {date} with {complaint}.",
    "{name}'s {lab}; she was last seen {date}.",
    "TRIAGE: {complaint}. Brought in by {name}, contactable on {phone}.",
    "Discharge to {address}. {drug} until {date}.",
    "Handover from {name}: {lab}, {finding}, {id}.",
    "Since {date} on {drug}; previously at {address}.",
    "Old films ({date}, {id}) not available; {finding}.",
    "Carer {name} reports {complaint}, tel. see {phone}.",
    "Wir berichten über {name}, geboren {date}, wohnhaft in {address}.",
    "Vorstellung von {name} am {date} wegen {beschwerde}; {labor}.",
    "Angehörige ({phone}) informiert, {name} einverstanden. {befund}.",
    "Procedure {date}: {device} placed by {name}. {finding}.",
    "{id}\n{name}\n{complaint}",
    "患者{name.zh}于{date}因咳嗽就诊，{lab}。",
    "{date}、{name.ja}に胸部X線を施行。",
    "{date} {name.ko} 환자 흉부 촬영.",
    "{date} осмотрен {name.ru}, жалобы на одышку.",
    "Προσήλθε στις {date} ο {name.el} με δύσπνοια.",
    "راجع {name.ar} العيادة بتاريخ {date}",
    "הגיע {name.he} למיון בתאריך {date}",
    "मरीज {name.hi} का एक्स-रे {date}",
    "{name.th} มาตรวจเมื่อ {date}",
)
PROSE = {
    "sentence": (
        "{finding}. {finding}.",
        "PC: {complaint}. O/E {lab}, {finding}.",
        "{lab}; {lab}; {lab}.",
        "Plan: {drug}, {device}, repeat in {n}/7.",
        "Impression: {finding}. {eponym}? Suggest follow-up in 6/52.",
        "PMH {eponym}, {complaint} in May; may stop {drug}.",
        "Marked {finding}, worse in the April film than in the March one.",
        "Therapie: {medikament}, {medikament}.",
        "Anamnese: {beschwerde}. Labor: {labor}, {labor}.",
        "Beurteilung: {befund}, V. a. {eponym}.",
    ),
    "complaint": (
        *(
            "fall on outstretched hand",
            "SOB on 1 flight of stairs",
            "2/24 of central chest pain, 8/10",
            "PR bleed x{n}",
        ),
        *(
            "vomited {n} times since 04:30",
            "collapse ?cause, GCS 14/15",
            "stridor, sats 8{n} %",
            "dizzy for {n}-{n} weeks",
        ),
    ),
    "finding": (
        *("{n} mm nodule in the lingula (series {n}, image 1{n}4)", "Lung-RADS 4A", "cT2a cN1 M0", "L4-L5 disc bulge"),
        *("Stanford B dissection, 4.{n} x 3.{n} cm", "SUVmax 1{n}.4", "-{n}20 HU to 4{n} HU", "power 4/5, reflexes 2+"),
        *(
            "tip of the line at T6-T7",
            "Salter-Harris II fracture",
            "cardiothoracic ratio 1{n}/29",
            "Kellgren grade {n}",
        ),
    ),
    "lab": (
        *(
            "140 4.{n} 98 102",
            "pO2 9.{n}, pCO2 5.1, BE -2.{n}",
            "Trop 1{n} -> 14{n}",
            "WCC 11.{n}, plt 4{n}1",
            "U 7.{n} Cr 1{n}2",
        ),
        *(
            "ALT 4{n}/AST 3{n}",
            "CK 1{n}450",
            "CD4 2{n}5",
            "HbA1c 5{n} mmol/mol",
            "BP 9{n}/60-110/70",
            "CA 19-9 12{n}0",
            "ANA 1:640",
        ),
    ),
    "drug": (
        *(
            "5-FU 400 mg/m2",
            "Seretide 25/125 2 puffs",
            "pip-taz 4.5 g tds",
            "1:1000 adrenaline 0.{n} mL",
            "heparin {n}5000 units",
        ),
        *("co-codamol 30/500", "vancomycin 1.25 g in 250 mL over 2 h", "dexamethasone 8-4-2 mg", "GTN {n} puffs"),
    ),
    "device": (
        "2-0 Vicryl",
        "a 20G cannula",
        "a Dobbhoff tube",
        "3-way catheter, 16 Ch",
        "a 5F sheath",
        "Thomas splint",
    ),
    "eponym": (
        *("May-Thurner syndrome", "Legg-Calvé-Perthes disease", "Murphy's sign", "Takayasu arteritis", "Ewing sarcoma"),
        *("Cushing's disease", "Osler-Weber-Rendu", "Guillain-Barré"),
    ),
    "beschwerde": ("Sturz vor {n} Tagen", "Fieber bis 39,{n} °C", "Luftnot seit gestern, SpO2 8{n} %", "B-Symptomatik"),
    "befund": (
        "Rundherd im Segment {n} links",
        "Z. n. Rippenfraktur 4.-6. rechts",
        "ZVK-Spitze Höhe BWK 6",
        "Kraftgrad 4/5",
    ),
    "labor": ("Hb 9,{n} g/dl", "Leuko 1{n}.400/µl", "PCT 0,{n}", "TSH 2,{n} mU/l", "Quick 8{n} %", "CK 1{n}40 U/l"),
    "medikament": (
        "L-Thyroxin 75 1-0-0-0",
        "Eliquis 2 x 5 mg",
        "Morphin 10-0-10-0",
        "Clexane 60 mg s.c. 1-0-1",
        "Torasemid 10 mg 1-½-0",
    ),
}
