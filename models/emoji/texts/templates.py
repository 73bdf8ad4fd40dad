"""What people may ask about a scene, by kind and language.

`{is_the}` stands for "is the red apple" or "are the grapes", `{zh}` for the Chinese name.
"""

from collections.abc import Mapping

from models.datasets.examples import Language

Templates = Mapping[Language, tuple[str, ...]]

QUESTIONS: Mapping[str, Templates] = {
    "name": {
        "en": (
            "What is this?",
            "What is it?",
            "What's this?",
            "What is shown here?",
            "Name this.",
            "What does the picture show?",
            "Can you tell me what this is?",
            "What is this thing?",
            "What object is this?",
        ),
        "zh": (
            "这是什么？",
            "这是什么?",
            "它是什么？",
            "这个东西是什么？",
            "这是什么东西？",
            "图上画的是什么？",
            "请说出它的名字。",
            "它叫什么？",
            "请问这是什么？",
        ),
    },
    "scene": {
        "en": (
            "What is in the picture?",
            "What do you see?",
            "What can you see in this picture?",
            "Describe the picture.",
            "Describe this image.",
            "What is in the image?",
            "Tell me what you see.",
            "What's in the picture?",
        ),
        "zh": (
            "图里有什么？",
            "图片里有什么？",
            "图中有什么？",
            "你看到了什么？",
            "描述一下这张图片。",
            "请描述这张图。",
            "这张图片里有什么？",
            "说说你看到的。",
        ),
    },
    "category": {
        "en": (
            "Which category does it belong to?",
            "What category is this?",
            "What kind of thing is this?",
            "Which group does this belong to?",
            "What is its category?",
            "Name the category.",
        ),
        "zh": (
            "它属于哪一类？",
            "这是哪一类东西？",
            "它是什么类别？",
            "这属于什么类别？",
            "请说出它的类别。",
            "它属于哪个类别？",
        ),
    },
    "colour": {
        "en": (
            "What colour is the background?",
            "What color is the background?",
            "Which colour does the background have?",
            "What is the background colour?",
            "What is the color of the background?",
            "Name the colour of the background.",
            "The background is which colour?",
        ),
        "zh": (
            "背景是什么颜色？",
            "背景是什么颜色的？",
            "背景的颜色是什么？",
            "背景颜色是什么？",
            "这张图的背景是什么颜色？",
            "请说出背景的颜色。",
            "图片的背景是什么颜色？",
        ),
    },
    "left": {
        "en": (
            "What is on the left?",
            "What's on the left?",
            "What is on the left side?",
            "What do you see on the left?",
            "Which thing is on the left?",
            "Name what is on the left.",
        ),
        "zh": (
            "左边是什么？",
            "左边有什么？",
            "图的左边是什么？",
            "左侧是什么？",
            "左边的东西是什么？",
            "在左边的是什么？",
        ),
    },
    "right": {
        "en": (
            "What is on the right?",
            "What's on the right?",
            "What is on the right side?",
            "What do you see on the right?",
            "Which thing is on the right?",
            "Name what is on the right.",
        ),
        "zh": (
            "右边是什么？",
            "右边有什么？",
            "图的右边是什么？",
            "右侧是什么？",
            "右边的东西是什么？",
            "在右边的是什么？",
        ),
    },
    "where": {
        "en": (
            "Where {is_the}?",
            "Where in the picture {is_the}?",
            "On which side {is_the}?",
            "Left or right: where {is_the}?",
            "On the left or on the right: where {is_the}?",
            "Tell me: where {is_the}?",
        ),
        "zh": (
            "{zh}在哪里？",
            "{zh}在哪边？",
            "{zh}在左边还是右边？",
            "哪一边是{zh}？",
            "请问{zh}在哪里？",
            "图里的{zh}在哪边？",
        ),
    },
    "count": {
        "en": (
            "How many are there?",
            "How many things are there?",
            "How many objects do you see?",
            "How many are in the picture?",
            "Count them.",
            "What is the number of objects?",
            "How many objects are in the picture?",
        ),
        "zh": (
            "有几个？",
            "图里有几个？",
            "图里有几个东西？",
            "一共有几个？",
            "有多少个？",
            "数一数有几个。",
            "图里有多少个东西？",
        ),
    },
    "follow_category": {
        "en": (
            "And its category?",
            "And which category is it?",
            "Which category does that belong to?",
            "What about its category?",
            "And the category?",
            "What category is that?",
        ),
        "zh": (
            "它的类别呢？",
            "那它属于哪一类？",
            "类别呢？",
            "那是什么类别？",
            "那它的类别是什么？",
            "那属于哪一类？",
        ),
    },
    "follow_colour": {
        "en": (
            "And the background?",
            "And the colour of the background?",
            "What about the background?",
            "And what colour is the background?",
            "And its background?",
            "And on which colour?",
        ),
        "zh": (
            "背景呢？",
            "那背景呢？",
            "背景颜色呢？",
            "那背景是什么颜色？",
            "背景又是什么颜色？",
            "那背景的颜色呢？",
        ),
    },
    "follow_left": {
        "en": (
            "And on the left?",
            "What about the left?",
            "And the left side?",
            "And what is on the left?",
            "And left?",
            "What about the left side?",
        ),
        "zh": ("左边呢？", "那左边呢？", "那左边是什么？", "左侧呢？", "那左边有什么？", "左边又是什么？"),
    },
    "follow_right": {
        "en": (
            "And on the right?",
            "What about the right?",
            "And the right side?",
            "And what is on the right?",
            "And right?",
            "What about the right side?",
        ),
        "zh": ("右边呢？", "那右边呢？", "那右边是什么？", "右侧呢？", "那右边有什么？", "右边又是什么？"),
    },
}

# By the language to change to; the request itself may be put in either.
TRANSLATE: Templates = {
    "en": (
        "Say it in English.",
        "In English, please.",
        "What is that in English?",
        "How do you say that in English?",
        "And in English?",
        "Translate it into English.",
        "用英文怎么说？",
        "用英语怎么说？",
        "请用英文说。",
        "英文呢？",
        "翻译成英文。",
        "用英语说一遍。",
    ),
    "zh": (
        "Say it in Chinese.",
        "In Chinese, please.",
        "What is that in Chinese?",
        "How do you say that in Chinese?",
        "And in Chinese?",
        "Translate it into Chinese.",
        "用中文怎么说？",
        "用汉语怎么说？",
        "请用中文说。",
        "中文呢？",
        "翻译成中文。",
        "用中文说一遍。",
    ),
}
